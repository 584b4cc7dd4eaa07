// Filter-helo is an example of a filter: it speaks OpenSMTPD's filter protocol
// on standard input and output, and needs nothing but the standard library.
//
// Who greets this host with the host's own name lies, and is refused; the
// names are its arguments. Of everybody else it writes the greeting into the
// message, as the header field X-Greeting.
//
//	filter "helo" proc-exec "/usr/local/libexec/filter-helo mx.example.org"
//	listen on eth0 filter "helo"
package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strings"
)

func main() {
	log.SetFlags(0) // what a filter says on standard error, the daemon logs with its name
	if err := serve(os.Stdin, os.Stdout, os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

// A session is what is remembered of one connection.
type session struct {
	greeting string
	marked   bool // this message has its field
}

// serve answers the daemon until it closes the connection. names are those of
// this host.
func serve(in io.Reader, out io.Writer, names []string) error {
	f := &filter{out: bufio.NewWriter(out), names: names, sessions: make(map[string]*session)}
	r := bufio.NewReader(in)
	for {
		line, err := r.ReadString('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f.line(strings.TrimSuffix(line, "\n")); err != nil {
			return err
		}
		// Many sessions share the connection: answer when nothing more waits.
		if r.Buffered() == 0 {
			if err := f.out.Flush(); err != nil {
				return err
			}
		}
	}
}

type filter struct {
	out      *bufio.Writer
	names    []string
	sessions map[string]*session
}

// line takes one line of the daemon. The last field may hold bars.
func (f *filter) line(text string) error {
	switch kind, _, _ := strings.Cut(text, "|"); kind {
	case "config":
		if text == "config|ready" {
			f.say("register|filter|smtp-in|helo")
			f.say("register|filter|smtp-in|ehlo")
			f.say("register|filter|smtp-in|data-line")
			f.say("register|report|smtp-in|link-disconnect")
			f.say("register|ready")
		}
	case "report": // report|version|time|direction|event|session
		if fields := strings.SplitN(text, "|", 7); len(fields) >= 6 {
			delete(f.sessions, fields[5])
		}
	case "filter": // filter|version|time|direction|phase|session|token|parameter
		fields := strings.SplitN(text, "|", 8)
		if len(fields) != 8 {
			return fmt.Errorf("a request of %d fields: %q", len(fields), text)
		}
		f.request(fields[4], fields[5], fields[6], fields[7])
	}
	return nil
}

func (f *filter) request(phase, id, token, parameter string) {
	s := f.sessions[id]
	if s == nil {
		s = new(session)
		f.sessions[id] = s
	}
	switch phase {
	case "helo", "ehlo":
		s.greeting = parameter
		if slices.ContainsFunc(f.names, func(name string) bool { return strings.EqualFold(name, parameter) }) {
			f.say("filter-result|" + id + "|" + token + "|reject|550 5.7.1 That is my name")
			return
		}
		f.say("filter-result|" + id + "|" + token + "|proceed")
	case "data-line":
		if !s.marked {
			s.marked = true
			f.say("filter-dataline|" + id + "|" + token + "|X-Greeting: " + s.greeting)
		}
		if parameter == "." { // the message ends; another may follow
			s.marked = false
		}
		f.say("filter-dataline|" + id + "|" + token + "|" + parameter)
	}
}

func (f *filter) say(line string) {
	f.out.WriteString(line)
	f.out.WriteByte('\n') // an error is kept until the next Flush
}
