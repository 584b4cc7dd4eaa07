package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"smtpd/compile"
	"smtpd/compile/hostfacts"
)

// A revision is a state of a repository of git.
type revision struct {
	name string
	top  string // folder of the working tree
}

// openRevision finds the repository that holds a file. git is asked by its
// arguments; no shell sees them.
func openRevision(name, file string) (*revision, error) {
	if strings.HasPrefix(name, "-") || strings.ContainsAny(name, ":\x00") {
		return nil, fmt.Errorf("%q is no revision", name)
	}
	folder, err := realPath(filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	top, err := git(folder, "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, err
	}
	r := &revision{name: name, top: strings.TrimSuffix(string(top), "\n")}
	if _, err := git(r.top, "rev-parse", "--verify", "--quiet", "--end-of-options", name+"^{tree}"); err != nil {
		return nil, fmt.Errorf("%s knows no revision %q", r.top, name)
	}
	return r, nil
}

func git(folder string, args ...string) ([]byte, error) {
	cmd := exec.Command("git", append([]string{"-C", folder}, args...)...)
	var failed bytes.Buffer
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if err != nil {
		if text := strings.TrimSpace(failed.String()); text != "" {
			err = errors.New(text)
		}
		return nil, fmt.Errorf("git: %w", err)
	}
	return out, nil
}

// realPath returns an absolute path without symbolic links in the folders.
func realPath(folder string) (string, error) {
	abs, err := filepath.Abs(folder)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// inside returns the path of a file from the top of the repository.
func (r *revision) inside(path string) (string, bool) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", false
	}
	if folder, err := realPath(filepath.Dir(abs)); err == nil {
		abs = filepath.Join(folder, filepath.Base(abs))
	}
	rel, err := filepath.Rel(r.top, abs)
	return filepath.ToSlash(rel), err == nil && filepath.IsLocal(rel)
}

// read returns a file as it was, or as it is if the repository is not where
// it is kept.
func (r *revision) read(path string) ([]byte, error) {
	rel, ok := r.inside(path)
	if !ok {
		return os.ReadFile(path)
	}
	object := r.name + ":" + rel
	if _, err := git(r.top, "cat-file", "-e", object); err != nil {
		return nil, &fs.PathError{Op: "read", Path: object, Err: fs.ErrNotExist}
	}
	return git(r.top, "show", "--no-textconv", "--end-of-options", object)
}

// readNow returns a file as it is.
func (*revision) readNow(path string) ([]byte, error) { return os.ReadFile(path) }

// hostWith returns the host for which to judge, whose files read returns.
// The facts are those of today: they tell of the host, not of the
// configuration. Without any the files of tables are read as they are named.
func (c *source) hostWith(read func(string) ([]byte, error)) (compile.Host, error) {
	if c.Host == "" {
		host, err := c.host()
		return filesOf{host, read}, err
	}
	text, err := os.ReadFile(c.Host)
	if err != nil {
		return nil, err
	}
	return hostfacts.Parse(c.Host, string(text), func(path string) ([]byte, error) {
		text, err := read(path)
		if errors.Is(err, fs.ErrNotExist) {
			return os.ReadFile(path) // a fact that is younger than the revision
		}
		return text, err
	})
}

// filesOf is a host with the files of a repository.
type filesOf struct {
	compile.Host
	read func(string) ([]byte, error)
}

// ReadFile returns a file that the repository has, or that of the host.
func (h filesOf) ReadFile(path string) (compile.File, error) {
	data, err := h.read(path)
	if err != nil {
		return h.Host.ReadFile(path)
	}
	return compile.File{Data: data, Mode: 0o600}, nil
}
