package main

import (
	"errors"
	"fmt"
	"os"

	"smtpd/compile"
	"smtpd/compile/analyze"
	"smtpd/compile/postfix"
	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/lang/token"
)

type importCmd struct {
	Postfix importPostfixCmd `cmd:"" help:"Read main.cf and master.cf of Postfix."`
}

type importPostfixCmd struct {
	Host     string `placeholder:"FILE" xor:"host" help:"Facts about the mail host: its name, and the files that the settings name."`
	ThisHost bool   `xor:"host" help:"This machine is the mail host."`
	Output   string `short:"o" placeholder:"PATH" help:"Write the result into a file."`

	Dir string `arg:"" name:"dir" help:"The directory with main.cf and master.cf, such as /etc/postfix or a copy of it."`
}

// Run converts the settings. The status is 0 if the result does the same, 3
// if there is something to say of it, and 1 if there is none.
func (c *importPostfixCmd) Run(s *streams) error {
	host, err := (&source{Host: c.Host, ThisHost: c.ThisHost}).host()
	if err != nil {
		return err
	}
	im, err := importPostfix(c.Dir, os.ReadFile, host)
	if err != nil {
		return err
	}
	if err := diag.Text(s.err, []*diag.Report{im.report}, false); err != nil {
		return err
	}
	fmt.Fprintf(s.err, "%s: %s\n", diag.Printable(c.Dir), im.summary())
	switch {
	case len(im.text) == 0:
		return outcome(bad)
	case im.rules == nil && c.Output != "":
		fmt.Fprintf(s.err, "%s: nothing is written before that is settled\n", diag.Printable(c.Dir))
		return outcome(bad)
	case c.Output != "":
		err = createFile(c.Output, im.text)
	default:
		_, err = s.out.Write(im.text)
	}
	switch {
	case err != nil:
		return err
	case im.rules == nil:
		return outcome(bad)
	case len(im.report.List) > 0:
		return outcome(remarks)
	}
	return nil
}

// An imported is what became of the settings of another server.
type imported struct {
	text   []byte // empty if there is no result
	report *diag.Report
	rules  *compile.Ruleset // nil if the result is not one that a server takes
	relay  analyze.RelayReport
}

// importPostfix converts the settings in a directory and judges the result.
func importPostfix(dir string, read func(path string) ([]byte, error), host compile.Host) (*imported, error) {
	r, err := postfix.Import(postfix.Options{Dir: dir, ReadFile: read, Host: host, ServerName: serverName(host)})
	if err != nil {
		return nil, err
	}
	im := &imported{report: &diag.Report{File: dir, Set: r.Set, List: r.Notes}}
	if r.Text == nil {
		return im, nil
	}
	im.text, err = lang.Format("smtpd.conf", r.Text)
	if err == nil {
		im.rules, err = compileText(im.text, host)
	} else {
		im.text = r.Text
	}
	if err != nil {
		im.report.List.Reportf(diag.Language, token.Span{}, "postfix-result", "the result needs a person: %v", err)
		return im, nil
	}
	im.relay = analyze.Relay(im.rules, analyze.RelayOptions{})
	if im.relay.Verdict == analyze.Refuted && !said(r.Notes, "postfix-open-relay") {
		im.report.List.Reportf(diag.Security, token.Span{}, "postfix-open-relay", "strangers can relay, as they can through Postfix: `smtpd-check relay` shows how")
	}
	return im, nil
}

// compileText compiles a result. What the host lacks is no mistake of it.
func compileText(text []byte, host compile.Host) (*compile.Ruleset, error) {
	f, parsed := lang.Parse("smtpd.conf", lang.Options{Text: text})
	rules, compiled := compile.Draft(f, host)
	for _, d := range append(parsed, compiled...) {
		if d.Class == diag.Language {
			return nil, fmt.Errorf("line %d of it: %s", d.Span.Start.Line, d.Message)
		}
	}
	if rules == nil {
		return nil, errors.New("it has no rule table")
	}
	return rules, nil
}

func said(list diag.List, code diag.Code) bool {
	for _, d := range list {
		if d.Code == code {
			return true
		}
	}
	return false
}

// summary says how the import went.
func (im *imported) summary() string {
	n := plural(len(im.report.List), "remark")
	switch {
	case im.rules == nil:
		return "not converted, " + plural(len(im.report.List), "finding")
	case im.relay.Verdict == analyze.Unknown:
		return "converted, with " + n + "; whether strangers can relay is not known: " + im.relay.Unproved
	default:
		return "converted, with " + n + "; " + relayVerdicts[im.relay.Verdict]
	}
}
