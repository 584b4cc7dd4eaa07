package parent

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// maildir stores msg as a new file of the maildir d names. The file is
// complete and on disk before it appears in new/, and so is its name before
// success is reported.
func (a *agent) maildir(d Delivery, msg *message) error {
	top := a.local(a.target(d))
	dir, err := a.folder(d, top, msg)
	if err != nil {
		return err
	}
	// The maildir is nearly always there: it is made when it is missed.
	err = a.store(dir, msg)
	if errors.Is(err, fs.ErrNotExist) {
		if err = a.makeMaildir(d, top, dir); err == nil {
			err = a.store(dir, msg)
		}
	}
	return err
}

// store makes msg a new file of the folder dir.
func (a *agent) store(dir string, msg *message) error {
	name := a.uniqueName()
	tmp := filepath.Join(dir, "tmp", name)
	if err := writeFile(tmp, msg); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(dir, "new", name)); err != nil {
		os.Remove(tmp)
		return err
	}
	return a.syncs.sync(filepath.Join(dir, "new"))
}

// makeMaildir makes what is missing of the maildir top and its folder dir, if
// the home is there.
func (a *agent) makeMaildir(d Delivery, top, dir string) error {
	if err := a.checkHome(d); err != nil {
		return err
	}
	if err := a.makeFolder(top); err != nil || dir == top {
		return err
	}
	return a.makeFolder(dir)
}

// makeFolder makes what is missing of dir and its three subdirectories.
func (a *agent) makeFolder(dir string) error {
	made := false
	for _, sub := range []string{"tmp", "cur", "new"} {
		path := filepath.Join(dir, sub)
		if _, err := os.Stat(path); err == nil {
			continue
		}
		if err := os.MkdirAll(path, 0o700); err != nil {
			return err
		}
		made = true
	}
	if !made {
		return nil
	}
	// New directories are there after a crash only once those that hold them
	// are synced. One that may not be read cannot be, and is not ours.
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := a.syncs.sync(d); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

// folder returns which folder of the maildir top takes msg: .Junk for spam,
// else that of the sub-address if the user has made it, else top.
func (a *agent) folder(d Delivery, top string, msg *message) (string, error) {
	if d.Junk {
		junk := filepath.Join(top, ".Junk")
		if !isDir(junk) {
			if err := a.makeMaildir(d, top, junk); err != nil {
				return "", err
			}
		}
		spam, err := msg.isSpam()
		if err != nil {
			return "", err
		}
		if spam {
			return junk, nil
		}
	}
	if d.SubAddress == "" {
		return top, nil
	}
	sub := filepath.Join(top, "."+folderName(d.SubAddress))
	if !isDir(sub) {
		return top, nil
	}
	return sub, nil
}

// folderName returns the sub-address tag as part of a file name: the bytes
// that have no meaning to a shell or a file system stay, all others, and dots
// with which it begins, become colons.
func folderName(tag string) string {
	b := []byte(tag)
	leading := true
	for i, c := range b {
		leading = leading && c == '.'
		if leading || !Plain(c) {
			b[i] = ':'
		}
	}
	return string(b)
}

// Plain reports whether c of an envelope's address may stand in a command or
// in a path: letters, digits and @._+=:,- only. Quoted and internationalized
// local parts hold anything else, and no list of dangerous bytes is complete.
func Plain(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("@._+=:,-", c) >= 0
}

// uniqueName returns a name that no other delivery to the same maildir takes,
// from this host or another: the time, 64 random bits, and the host.
func (a *agent) uniqueName() string {
	var r [8]byte
	rand.Read(r[:]) // never fails
	// The two bytes that a maildir name cannot hold are written as its
	// specification wants.
	host := strings.NewReplacer("/", `\057`, ":", `\072`).Replace(a.host)
	return fmt.Sprintf("%d.%s.%s", time.Now().Unix(), hex.EncodeToString(r[:]), host)
}

// writeFile writes msg to a file that must not exist, and syncs it. On failure
// nothing is left.
func writeFile(path string, msg *message) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			os.Remove(path)
		}
	}()
	if err := msg.writeTo(f); err != nil {
		return err
	}
	return f.Sync()
}
