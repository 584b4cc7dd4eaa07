package ctl

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"smtpd/compile/expand"
	"smtpd/compile/tablefile"
	"smtpd/compile/tablefile/cdb"
	"smtpd/compile/tablefile/hashdb"
)

const makemapUsage = "usage: makemap [-U] [-d dbtype] [-o dbfile] [-t type] file\n"

// A mapping is a database that is to be made of a text.
type mapping struct {
	source string // "-": standard input
	target string
	kind   mapKind
}

// A mapKind says what the lines of a text are.
type mapKind string

const (
	plainMap mapKind = ""        // keys and values
	aliasMap mapKind = "aliases" // keys, and lists of what they stand for
	setMap   mapKind = "set"     // keys alone
)

// setValue is what a key without a value maps to: other readers expect
// something.
const setValue = "<set>"

// makemap makes a database of a text, or shows one as text.
func makemap(t *terminal, args []string) int {
	m, dump, err := parseMakemap(args)
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprint(t.err, makemapUsage)
		return exitFailed
	case err == nil && dump:
		err = dumpMap(t.out, m.source)
	case err == nil:
		var n int
		if n, err = m.build(t.in); err == nil && n == 0 {
			fmt.Fprintf(t.err, "makemap: warning: empty map created: %s\n", m.target)
		}
	}
	if err != nil {
		fmt.Fprintf(t.err, "makemap: %v\n", err)
		return exitFailed
	}
	return exitOK
}

var errUsage = errors.New("wrong arguments")

// parseMakemap reads the arguments, those of old programs for sendmail's
// makemap too: makemap hash /etc/mail/aliases < /etc/mail/aliases.
func parseMakemap(args []string) (m mapping, dump bool, err error) {
	dbtype := "hash"
	operands, err := getopt(args, "Ud:o:t:", func(letter byte, arg string) {
		switch letter {
		case 'U':
			dump = true
		case 'd':
			dbtype = arg
		case 'o':
			m.target = arg
		case 't':
			m.kind = mapKind(arg)
		}
	})
	if err != nil {
		return m, dump, errUsage
	}
	name := ""
	switch len(operands) {
	case 1:
		m.source, name = operands[0], operands[0]
	case 2:
		dbtype, m.source, name = operands[0], "-", operands[1]
	default:
		return m, dump, errUsage
	}
	if m.target == "" {
		m.target = name + ".db"
	}
	switch {
	case !slices.Contains([]string{"hash", "btree", "cdb"}, dbtype):
		err = fmt.Errorf("unsupported DB type '%s'", dbtype)
	case !slices.Contains([]mapKind{plainMap, aliasMap, setMap}, m.kind):
		err = fmt.Errorf("unsupported type '%s'", m.kind)
	}
	return m, dump, err
}

// dumpMap writes the entries of a database, one a line.
func dumpMap(w io.Writer, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	entries, err := hashdb.Parse(data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	out := bufio.NewWriter(w)
	for _, e := range entries {
		fmt.Fprintf(out, "%s\t%s\n", e.Key, e.Value)
	}
	return out.Flush()
}

// build makes the database and returns how many entries it has. Whoever reads
// the target meanwhile sees the old one or the new one, whole.
func (m *mapping) build(stdin io.Reader) (int, error) {
	text, info, err := m.read(stdin)
	if err != nil {
		return 0, err
	}
	entries, err := m.parse(text)
	if err != nil {
		return 0, err
	}
	data, err := cdb.Encode(entries)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", m.source, err)
	}
	return len(entries), replaceFile(m.target, data, info)
}

// read returns the text, and what the file is like that it is from; nil for
// standard input.
func (m *mapping) read(stdin io.Reader) ([]byte, fs.FileInfo, error) {
	if m.source == "-" {
		text, err := io.ReadAll(stdin)
		return text, nil, err
	}
	f, err := os.Open(m.source)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	text, err := io.ReadAll(f)
	return text, info, err
}

// parse returns the entries of a text in their normal form. A bad line, or a
// key that is there twice, spoils the text: what was meant is not known.
func (m *mapping) parse(text []byte) ([]tablefile.Entry, error) {
	kind := tablefile.Mapping
	if m.kind == setMap {
		kind = tablefile.List
	}
	seen := make(map[string]bool)
	var entries []tablefile.Entry
	for l, err := range tablefile.Entries(m.source, text, kind) {
		if bad := (*tablefile.Error)(nil); errors.As(err, &bad) {
			return nil, m.invalid(bad.Line, bad.Msg)
		}
		l.Key = tablefile.Fold(l.Key)
		if err := m.check(l, seen); err != nil {
			return nil, err
		}
		if m.kind == setMap {
			l.Value = setValue
		}
		seen[l.Key] = true
		entries = append(entries, l.Entry)
	}
	return tablefile.Normalize(entries), nil
}

func (m *mapping) check(l tablefile.Line, seen map[string]bool) error {
	if seen[l.Key] {
		return &tablefile.Error{File: m.source, Line: l.N, Msg: "duplicate entry for " + l.Key}
	}
	if len(l.Key) > tablefile.MaxKey {
		return m.invalid(l.N, fmt.Sprintf("key of more than %d bytes", tablefile.MaxKey))
	}
	if m.kind == aliasMap {
		if err := expand.CheckList(l.Value); err != nil {
			return m.invalid(l.N, err.Error())
		}
	}
	return nil
}

func (m *mapping) invalid(line int, why string) error {
	return &tablefile.Error{File: m.source, Line: line, Msg: "invalid entry: " + why}
}

// replaceFile puts data in the place of the file path, with the mode and the
// owner of like; without like it is its maker's alone. After an error what
// was there still is.
func replaceFile(path string, data []byte, like fs.FileInfo) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err == nil {
			err = os.Rename(f.Name(), path)
		}
		if err != nil {
			os.Remove(f.Name())
			return
		}
		err = syncDir(dir)
	}()
	if like != nil {
		if err := takeAfter(f, like); err != nil {
			return err
		}
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// takeAfter gives a new file the owner and the mode of another: the owner
// first, for a mode that lets more read must not meet a wrong one.
func takeAfter(f *os.File, like fs.FileInfo) error {
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	want, ok := like.Sys().(*syscall.Stat_t)
	have, _ := mine.Sys().(*syscall.Stat_t)
	if ok && (want.Uid != have.Uid || want.Gid != have.Gid) {
		if err := f.Chown(int(want.Uid), int(want.Gid)); err != nil {
			return err
		}
	}
	return f.Chmod(like.Mode().Perm())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
