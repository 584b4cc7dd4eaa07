package ctl

import (
	"fmt"
	"slices"
	"strings"

	"smtpd/runtime/envelope"
	"smtpd/runtime/mta"
	"smtpd/runtime/queue"
)

// A command is a line of words. Those in angle brackets stand for what the
// user names.
type command struct {
	words string
	run   func(t *terminal, o options, names []string) error
}

// options are the flags before the words.
type options struct {
	json bool
}

// commands are all that smtpctl knows, in the order in which they are shown.
var commands = []command{
	{"discover <id>", discover},
	{"encrypt", encryptLines},
	{"encrypt <string>", encryptOne},
	{"log brief", logBrief},
	{"log verbose", logVerbose},
	{"lookup <string> <string> <string>", lookupTable},
	{"monitor", monitor},
	{"pause envelope <id>", manage(queue.Suspend, "paused")},
	{"pause envelope all", manage(queue.Suspend, "paused")},
	{"pause mda", pause("mda", true)},
	{"pause mta", pause("mta", true)},
	{"pause mta from <string> for <string>", pauseRelaying(mta.Pause)},
	{"pause smtp", pause("smtp", true)},
	{"queue check", queueCheck},
	{"queue import <dir>", queueImport(false)},
	{"queue import <dir> relay <string>", queueImport(false, "relay")},
	{"queue import <dir> local <string>", queueImport(false, "local")},
	{"queue import <dir> relay <string> local <string>", queueImport(false, "relay", "local")},
	{"queue import -n <dir>", queueImport(true)},
	{"queue import -n <dir> relay <string>", queueImport(true, "relay")},
	{"queue import -n <dir> local <string>", queueImport(true, "local")},
	{"queue import -n <dir> relay <string> local <string>", queueImport(true, "relay", "local")},
	{"queue where", showFields},
	{"queue where <string>", whereList},
	{"queue where <string> list", whereList},
	{"queue where <string> count", whereCount},
	{"queue where <string> hold", wherePlan(queue.Suspend, "held")},
	{"queue where <string> hold -y", whereDo(queue.Suspend, "held")},
	{"queue where <string> release", wherePlan(queue.Resume, "released")},
	{"queue where <string> release -y", whereDo(queue.Resume, "released")},
	{"queue where <string> schedule", wherePlan(queue.Schedule, "scheduled")},
	{"queue where <string> schedule -y", whereDo(queue.Schedule, "scheduled")},
	{"queue where <string> bounce", wherePlan(queue.Return, "bounced")},
	{"queue where <string> bounce -y", whereDo(queue.Return, "bounced")},
	{"queue where <string> remove", wherePlan(queue.Remove, "removed")},
	{"queue where <string> remove -y", whereDo(queue.Remove, "removed")},
	{"queue where <string> reroute <string>", wherePlan(queue.Reroute, "rerouted")},
	{"queue where <string> reroute <string> -y", whereDo(queue.Reroute, "rerouted")},
	{"reload", reload(false, false)},
	{"reload -f", reload(false, true)},
	{"reload -n", reload(true, false)},
	{"remove <id>", manage(queue.Remove, "removed")},
	{"remove all", manage(queue.Remove, "removed")},
	{"resume envelope <id>", manage(queue.Resume, "resumed")},
	{"resume envelope all", manage(queue.Resume, "resumed")},
	{"resume mda", pause("mda", false)},
	{"resume mta", pause("mta", false)},
	{"resume mta from <string> for <string>", pauseRelaying(mta.Resume)},
	{"resume route <string>", resumeRoute},
	{"resume smtp", pause("smtp", false)},
	{"schedule <id>", manage(queue.Schedule, "scheduled")},
	{"schedule all", manage(queue.Schedule, "scheduled")},
	{"show envelope <id>", showEnvelope},
	{"show hosts", showRelaying(mta.ShowHosts)},
	{"show hoststats", showRelaying(mta.ShowHostStats)},
	{"show message <id>", showMessage},
	{"show metrics", showMetrics},
	{"show mta paused", showRelaying(mta.ShowPaused)},
	{"show queue", showQueue},
	{"show queue <id>", showQueue},
	{"show relays", showRelaying(mta.ShowRelays)},
	{"show routes", showRelaying(mta.ShowRoutes)},
	{"show rules", showRules},
	{"show stats", showStats},
	{"show status", showStatus},
	{"show tls-reports", showRelaying(mta.ShowTLSReports)},
	{"show tls-reports <string>", showRelaying(mta.ShowTLSReports)},
	{"show why <id>", showWhy},
	{"spf walk", spfWalk("ip")},
	{"spf walk -4", spfWalk("ip4")},
	{"spf walk -6", spfWalk("ip6")},
	{"stop", stop},
	{"trace <id>", trace},
	{"update table <string>", updateTable},
	{"web", serveWeb(false)},
	{"web -l <string>", serveWeb(false)},
	{"web -w", serveWeb(true)},
	{"web -w -l <string>", serveWeb(true)},
}

// Commands returns the words of all commands.
func Commands() []string {
	words := make([]string, len(commands))
	for i, c := range commands {
		words[i] = c.words
	}
	return words
}

// find returns the command that args mean, and what they name in it. Every
// word may be cut as long as it means one word only. Without a command it
// returns those that begin so.
func find(args []string) (c *command, names []string, possible []string) {
	left := make([]*command, len(commands))
	for i := range commands {
		left[i] = &commands[i]
	}
	for i, arg := range args {
		matching := filter(left, i, arg, exact)
		if len(matching) == 0 {
			matching = preferred(filter(left, i, arg, strings.HasPrefix))
		}
		if len(matching) == 0 {
			matching = filter(left, i, arg, named)
			names = append(names, arg)
		}
		if len(matching) == 0 || sameWord(matching, i) == "" {
			if len(matching) > 0 {
				left = matching
			}
			return nil, nil, wordsOf(left)
		}
		left = matching
	}
	for _, l := range left {
		if len(strings.Fields(l.words)) == len(args) {
			return l, names, nil
		}
	}
	return nil, nil, wordsOf(left)
}

// givesWay are words of ours that begin as one of OpenSMTPD does: what could
// mean both means that one, as it always has.
var givesWay = map[string]bool{"lookup": true}

// preferred returns l without commands that give way, if there are others.
func preferred(l []*command) []*command {
	kept := slices.DeleteFunc(slices.Clone(l), func(c *command) bool { return givesWay[strings.Fields(c.words)[0]] })
	if len(kept) == 0 {
		return l
	}
	return kept
}

func wordsOf(l []*command) []string {
	words := make([]string, len(l))
	for i, c := range l {
		words[i] = c.words
	}
	return words
}

func exact(word, arg string) bool { return word == arg }

// named reports whether a user may name arg where word stands.
func named(word, arg string) bool {
	switch word {
	case "<id>":
		_, err := selection(arg)
		return err == nil
	case "<string>", "<dir>":
		return true
	}
	return false
}

func filter(l []*command, i int, arg string, match func(word, arg string) bool) []*command {
	var out []*command
	for _, c := range l {
		if words := strings.Fields(c.words); i < len(words) && match(words[i], arg) {
			out = append(out, c)
		}
	}
	return out
}

// sameWord returns the word that all of l have at i, or "" if they differ.
func sameWord(l []*command, i int) string {
	var word string
	for _, c := range l {
		w := strings.Fields(c.words)
		if i >= len(w) || word != "" && w[i] != word {
			return ""
		}
		word = w[i]
	}
	return word
}

// selection returns what an id names: 8 digits a message, 16 an envelope.
func selection(s string) (queue.Selection, error) {
	if id, err := envelope.ParseID(s); err == nil {
		return queue.Selection{Envelope: id}, nil
	}
	if id, err := envelope.ParseMessageID(s); err == nil && id != 0 {
		return queue.Selection{Message: id}, nil
	}
	return queue.Selection{}, fmt.Errorf("%q names no message (8 hexadecimal digits) and no envelope (16)", s)
}
