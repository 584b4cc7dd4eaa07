// Command smtpd is the mail server. Its flags are those of OpenSMTPD's
// smtpd(8), and a few more for trials and containers.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"

	"smtpd/compile"
	"smtpd/compile/hostfacts"
	"smtpd/compile/oshost"
	"smtpd/lang"
	"smtpd/runtime/parent"
	"smtpd/runtime/proc"
)

// version is what -h prints.
const version = "smtpd 0.1"

const usage = `usage: smtpd [-dFhnv] [-B what=backend] [-D macro=value] [-f file] [-P system] [-T trace]
             [--spool dir] [--user name] [--queue-user name] [--resolver host:port] [--log-format form] [--one-process]
             [--host facts] [--trial dir]
             [--strict-opensmtpd]
       smtpd quickstart domain [--hostname name] [--etc dir] [--force]
  -n            check the configuration and exit
  -f file       the configuration (default /etc/smtpd.conf)
  -D name=value define a macro
  -d            stay in the foreground, log to standard error
  -F            stay in the foreground, log to syslog
  -v            log more
  -P system     start with smtp, mta or mda paused
  -T trace      accepted and ignored
  -B queue=     accepted and ignored: there is one store
  --spool dir   where mail is kept (default /var/spool/smtpd)
  --user name   whom to become when started as root (default _smtpd or nobody)
  --log-format  text (key=value, the default) or json
  --resolver    name server to ask instead of the system's
  --queue-user  whom the queue becomes (default _smtpq or the user of the rest)
  --one-process run in one process also as root; without root it always does
  --host facts  with -n: judge for the host that a file describes
  --strict-opensmtpd  with -n: refuse what OpenSMTPD does not know
  --trial dir   run with a configuration that takes mail for you@trial.example
`

const (
	defaultConfig = "/etc/smtpd.conf"
	defaultSpool  = "/var/spool/smtpd"
)

// A cli is the command line.
type cli struct {
	Check      bool     `short:"n"`
	File       []string `short:"f" sep:"none"`
	Define     []string `short:"D" sep:"none"`
	Debug      bool     `short:"d"`
	Foreground bool     `short:"F"`
	Help       bool     `short:"h"`
	Verbose    int      `short:"v" type:"counter"`
	Paused     []string `short:"P" sep:"none"`
	Trace      []string `short:"T" sep:"none"`
	Backend    []string `short:"B" sep:"none"`
	Spool      string
	User       string
	QueueUser  string
	OneProcess bool
	Resolver   string
	LogFormat  string `enum:"text,json" default:"text"`
	Host       string
	Trial      string
	Strict     bool `name:"strict-opensmtpd"`
}

func main() {
	if status, ok := parent.RunAgent(os.Args, os.Stdin, os.Getenv, os.Stderr); ok {
		os.Exit(status)
	}
	order, ok, err := proc.ParseOrder(os.Args)
	switch {
	case err != nil:
		fmt.Fprintf(os.Stderr, "smtpd: %v\n", err)
		os.Exit(1)
	case ok:
		os.Exit(runOrder(order, os.Stderr))
	}
	if len(os.Args) > 1 && os.Args[1] == "quickstart" {
		os.Exit(runQuickstart(os.Args[2:], os.Stdout, os.Stderr))
	}
	os.Exit(run(os.Args[1:], os.Stderr))
}

// run does what the arguments say and returns the exit status.
func run(args []string, stderr io.Writer) int {
	var c cli
	if err := parseArgs(&c, args); err != nil {
		fmt.Fprintf(stderr, "smtpd: %v\n%s", err, usage)
		return 1
	}
	if c.Help {
		fmt.Fprintf(stderr, "%s\n%s", version, usage)
		return 1
	}
	for _, b := range c.Backend {
		fmt.Fprintf(stderr, "warn: -B %s: there is one backend\n", b)
	}
	defines := c.defines(stderr)
	var err error
	if c.Check {
		var host compile.Host
		if host, err = c.host(); err == nil {
			return check(c.file(), defines, host, c.Strict)
		}
	} else {
		err = c.serve(defines, stderr)
	}
	if err != nil {
		fmt.Fprintf(stderr, "smtpd: %v\n", err)
		return 1
	}
	return 0
}

// parseArgs reads flags, which may be bundled: -nf FILE.
func parseArgs(c *cli, args []string) error {
	p, err := kong.New(c, kong.Name("smtpd"), kong.NoDefaultHelp(), kong.Exit(func(int) {}))
	if err != nil {
		return err
	}
	_, err = p.Parse(args)
	return err
}

// file returns the configuration's path; of several the last one counts.
func (c *cli) file() string {
	if len(c.File) > 0 {
		return c.File[len(c.File)-1]
	}
	if c.Trial != "" {
		return filepath.Join(c.Trial, "smtpd.conf")
	}
	return defaultConfig
}

func (c *cli) spool() string {
	switch {
	case c.Spool != "":
		return c.Spool
	case c.Trial != "":
		return filepath.Join(c.Trial, "spool")
	}
	return defaultSpool
}

// defines returns the macros of the command line. The value begins after the
// last equals sign.
func (c *cli) defines(stderr io.Writer) []lang.Define {
	var all []lang.Define
	for _, d := range c.Define {
		i := strings.LastIndexByte(d, '=')
		if i < 0 {
			fmt.Fprintf(stderr, "warn: -D %s: no = in it, ignored\n", d)
			continue
		}
		all = append(all, lang.Define{Name: d[:i], Value: d[i+1:]})
	}
	return all
}

// host returns the host that the configuration is for.
func (c *cli) host() (compile.Host, error) {
	if c.Host == "" {
		return oshost.New(), nil
	}
	text, err := os.ReadFile(c.Host)
	if err != nil {
		return nil, err
	}
	return hostfacts.Parse(c.Host, string(text), os.ReadFile)
}

// paused reports whether -P names a system.
func (c *cli) paused(system string) bool {
	for _, p := range c.Paused {
		if p == system {
			return true
		}
	}
	return false
}
