package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"smtpd/compile"
	"smtpd/lang"
	"smtpd/lang/diag"
	"smtpd/lang/generation"
	"smtpd/lang/token"
)

// check judges the configuration in path as smtpd -n does, and returns the
// exit status: 0 for a good one. If strict is set a word that OpenSMTPD does
// not know is a mistake.
func check(path string, defines []lang.Define, host compile.Host, strict bool) int {
	collectLate()
	return checkTo(os.Stderr, path, defines, host, strict)
}

// firstGC is the size of the heap at which a check begins to collect: more
// than a file of two hundred thousand rules and actions needs, which made a
// collection that freed little one third of the work.
const firstGC = 384 << 20

// collectLate puts the garbage collector off until the heap is large. A
// check keeps nearly all that it makes and then ends, so on all but the
// longest files collecting is work for nothing; from the first collection on
// it goes on as usual.
func collectLate() {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(firstGC)
	runtime.AddCleanup(new([64]byte), func(int) {
		debug.SetGCPercent(100)
		debug.SetMemoryLimit(math.MaxInt64)
	}, 0)
}

func checkTo(w io.Writer, path string, defines []lang.Define, host compile.Host, strict bool) int {
	opts := lang.Options{Defines: defines}
	f, parsed := lang.Parse(path, opts)
	var compiled diag.List
	if _, read := f.Set.Source(path); read {
		var rs *compile.Ruleset
		if rs, compiled = compile.Compile(f, host); rs != nil {
			compiled = append(compiled, onlyChecked(rs)...)
		}
	}
	if strict {
		compiled.Refuse("extension")
	}
	syntax := make(map[*diag.Diagnostic]bool, len(parsed))
	for _, d := range parsed {
		syntax[d] = !named[d.Code]
	}
	list := diag.Merge(f.Set, parsed, compiled)
	if old := generation.Refuse(parsed, path, opts); old != nil {
		old.Message += "; " + old.Help[0]
		syntax[old] = true
		list = upTo(f.Set, list, old)
	}
	out := bufio.NewWriter(w)
	defer out.Flush()
	status := 0
	for _, d := range list {
		if d.Class == diag.Language || d.Class == diag.Host {
			status = 1
			complain(out, d, syntax[d])
		} else if d.Class == diag.Security || d.Class == diag.Warning {
			fmt.Fprintf(out, "warn: %s: %s\n", place(d), diag.Printable(d.Message))
		}
	}
	if status == 0 {
		fmt.Fprintln(out, "configuration OK")
	}
	return status
}

// upTo returns what is found before old, the finding about an older
// configuration, and that: it stands for all that comes after.
func upTo(set *token.FileSet, list diag.List, old *diag.Diagnostic) diag.List {
	list = slices.DeleteFunc(list, func(d *diag.Diagnostic) bool { return d.AtEnd || d.Span.Start == old.Span.Start })
	list = diag.Merge(set, list, diag.List{old})
	return list[:slices.Index(list, old)+1]
}

// onlyChecked returns what OpenSMTPD refuses under -n though it starts with
// it: the words that mean a key from standard input are no key.
func onlyChecked(rs *compile.Ruleset) diag.List {
	var list diag.List
	if rs.Queue.KeyFromInput() {
		list.Errorf(token.Span{}, "queue-key-stdin", "the key of queue encryption comes from standard input and cannot be checked").Fatal = true
	}
	return list
}

// named are the mistakes of the text that OpenSMTPD has words for. All
// others it calls a syntax error.
var named = map[diag.Code]bool{
	"include":             true,
	"include-limit":       true,
	"include-loop":        true,
	"macro-name":          true,
	"macro-size":          true,
	"number-range":        true,
	"too-large":           true,
	"too-long":            true,
	"undefined-macro":     true,
	"unreadable-file":     true,
	"unterminated-string": true,
}

// complain prints a mistake in the form in which OpenSMTPD prints it, which
// scripts read: file and line, or the name of the program where it stops at
// once.
func complain(w io.Writer, d *diag.Diagnostic, syntax bool) {
	text := diag.Printable(d.Message)
	switch {
	case d.Code == "no-rules":
		fmt.Fprintf(w, "warn: %s\n", text)
	case d.Code == "undefined-pki" || d.Code == "undefined-ca":
		fmt.Fprintf(w, "%s\nsmtpd\n", text)
	case d.Fatal:
		fmt.Fprintf(w, "smtpd: %s\n", text)
	case !d.Span.Start.IsValid():
		fmt.Fprintln(w, text)
	case syntax:
		fmt.Fprintf(w, "%s: syntax error: %s\n", place(d), strings.TrimPrefix(text, "syntax error "))
	default:
		fmt.Fprintf(w, "%s: %s\n", place(d), text)
	}
}

// place returns the file and the line that OpenSMTPD names.
func place(d *diag.Diagnostic) string {
	p := d.Span.Start
	if d.Seen.IsValid() {
		p = d.Seen
	}
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}
