package parent

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"smtpd/runtime/envelope"
)

// agentWord is the first argument of this program when it delivers what it
// reads. The others are words of the configuration: a method, the option of
// it if the action has that, and the target.
const agentWord = "deliver-stdin"

// agentMethods are the methods that a wrapper can be put around, with their
// options.
var agentMethods = []struct {
	method       Method
	name, option string
}{{Maildir, "maildir", "junk"}, {Mbox, "mbox", ""}, {LMTP, "lmtp", "rcpt-to"}}

// AgentCommand returns what a shell runs to do what the method of d does:
// program, which is this one, with the message on its standard input.
func AgentCommand(program string, d Delivery) string {
	for _, m := range agentMethods {
		if m.method != d.Method {
			continue
		}
		words := []string{quote(program), agentWord, m.name}
		if d.Junk || d.RcptTo {
			words = append(words, m.option)
		}
		return strings.Join(append(words, quote(d.Target)), " ")
	}
	return d.Target
}

// quote returns s as one word of the shell; in quotes only if it must be, since
// a wrapper may have put quotes of its own around it.
func quote(s string) string {
	odd := func(c byte) bool { return c != '/' && !Plain(c) }
	if s != "" && !slices.ContainsFunc([]byte(s), odd) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// RunAgent is this program as the command of AgentCommand, if args say so: it
// delivers what it reads from in as who it runs as. What it needs to know of
// the envelope is in the environment of delivery commands. It returns the exit
// status, and says on complain why it is not 0.
func RunAgent(args []string, in io.Reader, getenv func(string) string, complain io.Writer) (status int, ok bool) {
	if len(args) < 2 || args[1] != agentWord {
		return 0, false
	}
	d, err := agentDelivery(args[2:], getenv)
	if err != nil {
		fmt.Fprintf(complain, "smtpd: %v\n", err)
		return exUsage, true
	}
	r, err := deliverFrom(in, d)
	if err != nil {
		r = failure(err)
	}
	switch r.Outcome {
	case Delivered:
		return 0, true
	case PermFail:
		status = exUnavailable
	default:
		status = exTempFail
	}
	fmt.Fprintln(complain, strings.TrimSuffix(strings.TrimPrefix(r.Text, "Error ("), ")"))
	return status, true
}

// agentDelivery returns what arguments and environment say.
func agentDelivery(args []string, getenv func(string) string) (Delivery, error) {
	if n := len(args); n == 2 || n == 3 {
		for _, m := range agentMethods {
			option := n == 3
			if args[0] != m.name || option && args[1] != m.option {
				continue
			}
			user := getenv("USER")
			return Delivery{
				As:     Account{Name: user, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), Home: getenv("HOME")},
				Method: m.method, Target: args[n-1], Junk: option, RcptTo: option, User: user,
				Sender: envelope.ParseAddress(getenv("SENDER")), Rcpt: envelope.ParseAddress(getenv("ORIGINAL_RECIPIENT")),
				Dest: envelope.ParseAddress(getenv("RECIPIENT")), SubAddress: getenv("EXTENSION"),
			}, nil
		}
	}
	return Delivery{}, fmt.Errorf("usage: smtpd %s maildir [junk] path | mbox path | lmtp [rcpt-to] destination", agentWord)
}

// deliverFrom delivers what it reads from in, which may be a pipe.
func deliverFrom(in io.Reader, d Delivery) (r Result, err error) {
	host, err := os.Hostname()
	if err != nil {
		return r, err
	}
	a, err := newAgent(Config{ServerName: host})
	if err != nil {
		return r, err
	}
	defer a.lmtps.close()
	content, err := os.CreateTemp("", "smtpd.")
	if err != nil {
		return r, err
	}
	defer content.Close()
	if err := os.Remove(content.Name()); err != nil {
		return r, err
	}
	if _, err := io.Copy(content, in); err != nil {
		return r, err
	}
	return a.deliver(context.Background(), d, content), nil
}
