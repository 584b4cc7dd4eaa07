package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/compile/engine"
	"smtpd/compile/policy"
	"smtpd/runtime/imsg"
	"smtpd/runtime/proc"
	"smtpd/runtime/sandbox"
)

// judgeRole is the role of the process that compares configurations before a
// reload: the analysis is much code, and what it reads comes from files.
const judgeRole = "analyze"

// judgeTime is how long the analysis may take. Then the reload goes on
// without: what it would have found is not known.
const judgeTime = 30 * time.Second

// A question is what is judged.
type question struct {
	Before, After []byte // Rulesets, encoded
	Labels        []label
	Tests         []policyTest
}

// A label is what a comment calls a rule of the new configuration.
type label struct {
	Rule uint32
	Name string
}

// A policyTest is a file of tests.
type policyTest struct {
	Name string
	Text []byte
}

// A judgement is what was found.
type judgement struct {
	Opens  bool // somebody can relay who could not
	Failed bool // a test of the policy does
	Text   string
}

func (q *question) append(b []byte) []byte {
	b = imsg.AppendBytes(imsg.AppendBytes(b, q.Before), q.After)
	b = imsg.AppendUint32(b, uint32(len(q.Labels)))
	for _, l := range q.Labels {
		b = imsg.AppendString(imsg.AppendUint32(b, l.Rule), l.Name)
	}
	b = imsg.AppendUint32(b, uint32(len(q.Tests)))
	for _, t := range q.Tests {
		b = imsg.AppendBytes(imsg.AppendString(b, t.Name), t.Text)
	}
	return b
}

func (q *question) parse(b []byte) error {
	r := imsg.NewReader(b)
	q.Before, q.After = r.Bytes(), r.Bytes()
	for range r.Count(8) {
		q.Labels = append(q.Labels, label{r.Uint32(), r.String()})
	}
	for range r.Count(8) {
		q.Tests = append(q.Tests, policyTest{r.String(), r.Bytes()})
	}
	return r.Close()
}

func (j *judgement) append(b []byte) []byte {
	return imsg.AppendString(imsg.AppendBool(imsg.AppendBool(b, j.Opens), j.Failed), j.Text)
}

func (j *judgement) parse(b []byte) error {
	r := imsg.NewReader(b)
	j.Opens, j.Failed, j.Text = r.Bool(), r.Bool(), r.String()
	return r.Close()
}

// testsBeside reads the tests of the policy that lie beside a configuration.
func testsBeside(config string) ([]policyTest, error) {
	entries, err := os.ReadDir(filepath.Dir(config))
	if err != nil {
		return nil, err
	}
	var tests []policyTest
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".smtptest") {
			continue
		}
		name := filepath.Join(filepath.Dir(config), e.Name())
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		tests = append(tests, policyTest{name, text})
	}
	return tests, nil
}

// ask has program, which is this one, judge q as account.
func (q *question) ask(ctx context.Context, program string, account proc.Account) (*judgement, error) {
	ctx, cancel := context.WithTimeout(ctx, judgeTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Args = proc.Order{Role: judgeRole}.CommandLine()
	cmd.Env = []string{"GOMEMLIMIT=1GiB"}
	cmd.Dir = "/"
	cmd.Stdin = bytes.NewReader(q.append(nil))
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(account.UID), Gid: uint32(account.GID)}
	}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = errors.New("it took too long")
		}
		return nil, fmt.Errorf("%w %s", err, strings.TrimSpace(problems.String()))
	}
	j := new(judgement)
	return j, j.parse(out.Bytes())
}

// runJudge answers one question on standard output.
func runJudge(in io.Reader, out, stderr io.Writer) error {
	if err := sandbox.Enter(judgeRole, sandbox.Config{}, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	b, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	var q question
	if err := q.parse(b); err != nil {
		return err
	}
	j, err := q.judge()
	if err == nil {
		_, err = out.Write(j.append(nil))
	}
	return err
}

// judge runs the tests, proves what can be proved, and compares.
func (q *question) judge() (*judgement, error) {
	before, err1 := compile.Decode(q.Before)
	after, err2 := compile.Decode(q.After)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	j := new(judgement)
	j.runTests(after, q)
	relay := analyze.Relay(after, analyze.RelayOptions{})
	j.printf("relay: %s %s\n", relay.Verdict, relay.Unproved)
	for _, o := range relay.Open {
		j.printf("relay: %s relays for strangers, for example from %s\n", rulePlace(after, o.Rule), describe(&o.Witness.Transaction))
	}
	d := analyze.Diff(before, after)
	for i := range d.Changes {
		ch := &d.Changes[i]
		j.Opens = j.Opens || ch.Danger == analyze.RelayAppears
		j.printf("%s: %s, was %s\n\tfor example from %s\n", ch.Danger,
			decided(after, ch.New), decided(before, ch.Old), describe(&ch.Witness.Transaction))
	}
	switch {
	case d.Verdict == analyze.Proved:
		j.printf("no decision changes\n")
	case d.Verdict == analyze.Unknown || d.Unproved != "":
		j.printf("not all differences are known %s\n", d.Unproved)
	}
	return j, nil
}

func (j *judgement) printf(format string, args ...any) {
	j.Text += strings.ReplaceAll(fmt.Sprintf(format, args...), " \n", "\n")
}

func (j *judgement) runTests(rules *compile.Ruleset, q *question) {
	if len(q.Tests) == 0 {
		return
	}
	labels := make(map[int]string)
	for _, l := range q.Labels {
		labels[int(l.Rule)] = l.Name
	}
	var bound []*policy.Bound
	for _, f := range q.Tests {
		suite, list := policy.Read(f.Name, f.Text)
		tests, unbound := suite.Bind(rules, labels)
		list = append(list, unbound...)
		j.Failed = j.Failed || len(list) > 0
		for _, d := range list {
			j.printf("%s\n", d.Error())
		}
		bound = append(bound, tests...)
	}
	r := policy.Run(bound, len(rules.Rules))
	for i := range r.Results {
		if t := &r.Results[i]; !t.Passed {
			j.printf("test %q fails: expected %s, got %s\n", t.Test.Name, &t.Test.Expect, t.Got)
		}
	}
	j.Failed = j.Failed || r.Failed > 0
	j.printf("%d of %d tests pass\n", len(r.Results)-r.Failed, len(r.Results))
}

func rulePlace(rs *compile.Ruleset, rule int) string {
	o := rs.Rules[rule].Origin
	return fmt.Sprintf("%s:%d", o.File, o.Line)
}

func decided(rs *compile.Ruleset, d engine.Decision) string {
	switch {
	case d.Rule < 0 || d.Rule >= len(rs.Rules):
		return "no rule"
	case rs.Rules[d.Rule].Action == 0:
		return "reject by " + rulePlace(rs, d.Rule)
	}
	return fmt.Sprintf("action %q by %s", rs.Action(rs.Rules[d.Rule].Action).Name, rulePlace(rs, d.Rule))
}

func describe(tx *engine.Transaction) string {
	from := tx.SourceKey()
	switch tx.Kind {
	case engine.FromSocket:
		from = "the local socket"
	case engine.FromInternal:
		from = "an expansion"
	}
	sender := tx.Sender.String()
	if sender == "@" {
		sender = ""
	}
	return fmt.Sprintf("%s, sender <%s>, recipient <%s>", from, sender, tx.Rcpt)
}
