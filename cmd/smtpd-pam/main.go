//go:build pam

// Command smtpd-pam asks PAM whether a password is that of an account, and the
// name services of the system (nsswitch.conf) who an account is. The daemon is
// free of C, and so knows only the accounts that are in files; this program,
// which is built with the tag pam and needs the C library and the headers of
// PAM, brings what else a system has: directories, tokens, limits.
//
//	go build -tags pam ./cmd/smtpd-pam
//	install -o root -m 0755 smtpd-pam /usr/local/libexec/smtpd/
//	install -m 0644 contrib/pam.d/smtpd /etc/pam.d/
//
// Where it is installed, parent runs it for each login to a listener with auth
// and without a table, and for each account that is in no file. It reads a
// question from standard input:
//
//	login NAME PASSWORD    is answered with yes or no
//	account NAME           is answered with UID:GID:HOME or no
//
// and writes the answer, or why there is none, to standard output. Every word
// has its length before it, two bytes with the high one first. It answers once
// and ends.
//
// What must never happen here: a password in an argument, in the environment,
// in a file or in a message; a yes for root, or for an account that PAM does
// not let in now.
package main

/*
#cgo LDFLAGS: -lpam
#include <security/pam_appl.h>
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

// What PAM says to the user is not shown: there is nobody to read it. It is
// given the password when it asks for what must not be seen, and nothing else.
static int converse(int n, const struct pam_message **msg, struct pam_response **out, void *password) {
	if (n <= 0 || n > PAM_MAX_NUM_MSG)
		return PAM_CONV_ERR;
	struct pam_response *r = calloc(n, sizeof *r);
	if (r == NULL)
		return PAM_BUF_ERR;
	for (int i = 0; i < n; i++) {
		switch (msg[i]->msg_style) {
		case PAM_PROMPT_ECHO_OFF:
			if ((r[i].resp = strdup(password)) != NULL)
				continue;
			break;
		case PAM_TEXT_INFO:
		case PAM_ERROR_MSG:
			continue;
		}
		for (int j = 0; j < i; j++)
			free(r[j].resp);
		free(r);
		return PAM_CONV_ERR;
	}
	*out = r;
	return PAM_SUCCESS;
}

#ifdef PAM_FAIL_DELAY
// The daemon itself slows guessing down: no process need sleep for it.
static void no_delay(int status, unsigned usec, void *data) {}
#endif

// check returns the status of PAM, and in why what it is called.
static int check(const char *service, const char *user, char *password, const char **why) {
	struct pam_conv conv = { converse, password };
	pam_handle_t *h = NULL;
	int status = pam_start(service, user, &conv, &h);
#ifdef PAM_FAIL_DELAY
	if (status == PAM_SUCCESS)
		pam_set_item(h, PAM_FAIL_DELAY, (const void *)no_delay);
#endif
	if (status == PAM_SUCCESS)
		status = pam_authenticate(h, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
	if (status == PAM_SUCCESS)
		status = pam_acct_mgmt(h, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
	*why = pam_strerror(h, status);
	if (h != NULL)
		pam_end(h, status);
	return status;
}

// account returns the account of a name, NULL with errno 0 if there is none.
static struct passwd *account(const char *name) {
	errno = 0;
	struct passwd *p = getpwnam(name);
	if (p == NULL && (errno == ENOENT || errno == ESRCH))
		errno = 0; // some say so
	return p;
}
*/
import "C"

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"
	"unsafe"
)

// service is the name of the file in /etc/pam.d.
const service = "smtpd"

func main() {
	answer, err := ask(bufio.NewReader(os.Stdin))
	if err != nil {
		answer = err.Error()
	}
	out := binary.BigEndian.AppendUint16(nil, uint16(len(answer)))
	if _, err := os.Stdout.Write(append(out, answer...)); err != nil {
		os.Exit(1)
	}
}

// ask reads a question and returns the answer.
func ask(in io.Reader) (string, error) {
	verb, err := readString(in)
	if err != nil {
		return "", fmt.Errorf("read the question: %w", err)
	}
	user, err := readString(in)
	if err != nil {
		return "", fmt.Errorf("read the name: %w", err)
	}
	switch {
	case user == "" || strings.Contains(user, "\x00"):
		return "no", nil
	case verb == "account":
		return account(user)
	case verb == "login":
		password, err := readString(in)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return login(user, password)
	}
	return "", fmt.Errorf("no such question: %q", verb)
}

// account returns who has a name.
func account(user string) (string, error) {
	name := C.CString(user)
	defer C.free(unsafe.Pointer(name))
	p, err := C.account(name)
	switch {
	case p != nil:
		return fmt.Sprintf("%d:%d:%s", uint32(p.pw_uid), uint32(p.pw_gid), C.GoString(p.pw_dir)), nil
	case err != nil:
		return "", err
	}
	return "no", nil
}

// login returns whether PAM lets a user in with a password.
func login(user, password string) (string, error) {
	if strings.Contains(password, "\x00") {
		return "no", nil
	}
	name, secret, s := C.CString(user), C.CString(password), C.CString(service)
	defer C.free(unsafe.Pointer(name))
	defer C.free(unsafe.Pointer(secret))
	defer C.free(unsafe.Pointer(s))
	var why *C.char
	// An account of the superuser is refused behind the question and not in
	// place of it: it takes as long as any other.
	status := C.check(s, name, secret, &why)
	switch status {
	case C.PAM_SUCCESS:
		if p := C.account(name); p != nil && p.pw_uid == 0 {
			return "no", nil
		}
		return "yes", nil
	case C.PAM_AUTH_ERR, C.PAM_USER_UNKNOWN, C.PAM_MAXTRIES, C.PAM_PERM_DENIED, C.PAM_ACCT_EXPIRED,
		C.PAM_NEW_AUTHTOK_REQD, C.PAM_CRED_EXPIRED, C.PAM_CRED_INSUFFICIENT:
		return "no", nil
	}
	return C.GoString(why), nil
}

func readString(in io.Reader) (string, error) {
	var size [2]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return "", err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(in, b)
	return string(b), err
}
