package postfix

import (
	"errors"
	"path"
	"slices"
	"strings"

	"smtpd/compile/tablefile"
	"smtpd/lang/diag"
)

// A mapRef is a lookup table of Postfix, such as hash:/etc/postfix/virtual.
type mapRef struct {
	kind, name string
	pairs      []tablefile.Entry // of inline
}

func (r mapRef) String() string { return r.kind + ":" + r.name }

// parseMap reads TYPE:NAME.
func parseMap(word string) (r mapRef, ok bool) {
	word = strings.TrimPrefix(word, "proxy:")
	kind, name, ok := strings.Cut(word, ":")
	if !ok || kind == "" || strings.Trim(kind, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
		return r, false
	}
	r = mapRef{kind: kind, name: name}
	if inside, rest, ok := bracketed(name); ok && kind == "inline" && rest == "" {
		for _, pair := range words(inside) {
			if in, rest, ok := bracketed(pair); ok && rest == "" {
				pair = in
			}
			key, value, _ := strings.Cut(pair, "=")
			r.pairs = append(r.pairs, tablefile.Entry{Key: strings.Trim(key, blanks), Value: strings.Trim(value, blanks)})
		}
	}
	return r, true
}

// isFile reports whether the map is made from a text file.
func (r mapRef) isFile() bool {
	return slices.Contains([]string{"hash", "btree", "lmdb", "texthash", "dbm", "cdb", "sdbm"}, r.kind) && isPath(r.name)
}

// maps returns the maps that a parameter names. Others than those are said
// and left out.
func (im *importer) maps(name string) []mapRef {
	var list []mapRef
	for _, word := range words(im.value(name)) {
		r, ok := parseMap(word)
		if !ok && strings.HasPrefix(word, "/") {
			r, ok = mapRef{kind: im.value("default_database_type"), name: word}, true
		}
		if !ok || !r.isFile() && r.kind != "inline" {
			im.mapNote(name, word)
			continue
		}
		list = append(list, r)
	}
	return list
}

func (im *importer) mapNote(name, word string) {
	kind, _, _ := strings.Cut(strings.TrimPrefix(word, "proxy:"), ":")
	d := im.note(im.main.lookup(name), diag.Warning, "postfix-map", "%s: the map %s has no counterpart and is left out", name, clip(word))
	if program := map[string]string{"mysql": "mysql", "pgsql": "postgres", "ldap": "ldap", "sqlite": "sqlite"}[kind]; program != "" {
		d.Help = []string{"a program can serve such a table: `table NAME " + program + ":/etc/mail/" + program + ".conf`"}
	}
}

// readFile returns a file that the settings name, if it can be read.
func (im *importer) readFile(name string) ([]byte, bool) {
	name = path.Clean(name)
	if rel, ok := strings.CutPrefix(name, path.Clean(im.value("config_directory"))+"/"); ok {
		text, err := im.opts.ReadFile(path.Join(im.opts.Dir, rel))
		return text, err == nil && len(text) <= maxFile
	}
	f, err := im.opts.Host.ReadFile(name)
	return f.Data, err == nil && len(f.Data) <= maxFile
}

// entries returns what a map has, if that is known.
func (im *importer) entries(r mapRef) ([]tablefile.Entry, bool) {
	if r.kind == "inline" {
		return r.pairs, true
	}
	if !r.isFile() && r.kind != "cidr" {
		return nil, false
	}
	text, ok := im.readFile(r.name)
	if !ok {
		return nil, false
	}
	lines, err := logical(r.name, text)
	if err != nil {
		return nil, false
	}
	var list []tablefile.Entry
	for _, l := range lines {
		n := strings.IndexAny(l.text, blanks)
		if n < 0 {
			continue // Postfix warns of it, and skips it
		}
		list = append(list, tablefile.Entry{Key: l.text[:n], Value: strings.Trim(l.text[n:], blanks)})
	}
	return list, true
}

// table declares the table for a map of keys and values and returns its
// name. colons says that a colon ends a key, as in the files of aliases.
func (im *importer) table(p *param, r mapRef, base string, colons bool) string {
	if name, ok := im.tables[r.String()]; ok {
		return name
	}
	name := im.name(base)
	im.tables[r.String()] = name
	if r.kind == "inline" {
		im.pairs(p, name, r.pairs)
		return name
	}
	im.decls = append(im.decls, "table "+name+" "+spec(r.name))
	text, ok := im.readFile(r.name)
	if !ok {
		// Files of aliases are read as they are, as everywhere.
		if !colons {
			im.note(p, diag.Portability, "postfix-table", "%s is not here to be looked at: each of its lines must be a key and its value", r.name).
				Help = []string{"a line that begins with a blank and goes on with the one before has to be joined to it"}
		}
		return name
	}
	im.checkFile(p, r.name, text, colons)
	return name
}

// checkFile says if the entries of a file are others here than in Postfix.
func (im *importer) checkFile(p *param, name string, text []byte, colons bool) {
	kind, have, err := tablefile.Parse(name, text)
	var bad *tablefile.Error
	switch {
	case errors.As(err, &bad):
		im.note(p, diag.Warning, "postfix-table", "%s:%d: %s; correct the file before it is used", name, bad.Line, bad.Msg)
		return
	case kind != tablefile.Mapping:
		im.note(p, diag.Warning, "postfix-table", "%s begins with a line that has no value, so that it is no table of keys and values; correct the file before it is used", name)
		return
	}
	lines, err := logical(name, text)
	if err != nil {
		return // the parser took it
	}
	var want []tablefile.Entry
	for _, l := range lines {
		n := strings.IndexAny(l.text, blanks)
		if colon := strings.IndexByte(l.text, ':'); colons && colon >= 0 {
			n = colon
		}
		if n < 0 {
			continue
		}
		want = append(want, tablefile.Entry{Key: l.text[:n], Value: strings.Trim(l.text[n+1:], blanks)})
	}
	if !slices.Equal(have, tablefile.Normalize(want)) {
		im.note(p, diag.Warning, "postfix-table", "%s has lines that are read in another way here; correct the file before it is used", name).
			Help = []string{"a line that begins with a blank and goes on with the one before has to be joined to it, and a key ends at its first blank or colon"}
	}
}

// pairs declares a table with its entries.
func (im *importer) pairs(p *param, name string, entries []tablefile.Entry) {
	var list []string
	for _, e := range entries {
		if e.Key == "" || e.Value == "" || !quotable(e.Key) || !quotable(e.Value) {
			im.note(p, diag.Warning, "postfix-table", "the entry %q cannot be written and is left out", clip(e.Key))
			continue
		}
		list = append(list, quote(e.Key)+" = "+quote(e.Value))
	}
	if len(list) == 0 {
		list = []string{`"nobody@invalid" = "nobody"`}
	}
	im.decls = append(im.decls, "table "+name+" "+braces(list))
}

// list declares a table of names.
func (im *importer) list(base string, names []string) string {
	key := "list:" + strings.Join(names, ",")
	if name, ok := im.tables[key]; ok {
		return name
	}
	name := im.name(base)
	im.tables[key] = name
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = quote(n)
	}
	im.decls = append(im.decls, "table "+name+" "+braces(quoted))
	return name
}

// braces writes a list on one line: releases before 7.5 want no newline after
// a brace.
func braces(list []string) string { return "{ " + strings.Join(list, ", ") + " }" }
