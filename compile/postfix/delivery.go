package postfix

import (
	"path"
	"slices"
	"strings"

	"smtpd/lang/diag"
)

// virtualUser is whom mail for virtual mailboxes is delivered as.
const virtualUser = "vmail"

// rejecting stands for an action that is none.
const rejecting = "reject"

// method returns how the users of this host get their mail.
func (im *importer) method() string {
	for _, name := range []string{"mailbox_transport", "local_transport"} {
		value := im.value(name)
		if value == "" || value == "local" || strings.HasPrefix(value, "local:") {
			continue
		}
		if m, _, ok := im.deliverBy(im.main.lookup(name), value); ok {
			return m
		}
		im.notCarried(name)
	}
	if command := im.value("mailbox_command"); command != "" {
		if isCommand(command) {
			im.note(im.main.lookup("mailbox_command"), diag.Portability, "postfix-command", "mailbox_command: the command finds other variables in its environment: USER, HOME, SENDER, RECIPIENT and EXTENSION are there")
			return "mda " + quote(command)
		}
		im.note(im.main.lookup("mailbox_command"), diag.Warning, "postfix-command", "mailbox_command: a shell would read this command in another way: put it into a script, and call that with `mda`. Mail goes to the mailbox instead")
	}
	if home := im.value("home_mailbox"); home != "" {
		if m, ok := maildir("~/", home); ok {
			return m
		}
		im.notCarried("home_mailbox")
	}
	if spool := im.value("mail_spool_directory"); strings.HasSuffix(spool, "/") && isPath(spool) && spool != "/var/mail/" && spool != "/var/spool/mail/" {
		return "maildir " + quote(spool+"%{user.username}")
	}
	return "mbox"
}

// maildir returns the method for a directory of mail.
func maildir(under, name string) (method string, ok bool) {
	switch {
	case name == "Maildir/" && under == "~/":
		return "maildir", true
	case !strings.HasSuffix(name, "/") || !isPath("/"+name):
		return "", false
	}
	return "maildir " + quote(under+strings.TrimSuffix(name, "/")), true
}

// isCommand reports whether a command reads the same within the double
// quotes of a shell, where it comes to stand.
func isCommand(text string) bool {
	return quotable(text) && !strings.ContainsAny(text, "\"'$`\\%")
}

// deliverBy returns the method for a transport such as lmtp:unix:socket, and
// the user for it if that is said.
func (im *importer) deliverBy(p *param, text string) (method, user string, ok bool) {
	transport, next, _ := strings.Cut(text, ":")
	if transport == "error" || transport == "retry" {
		return rejecting, "", true
	}
	sv := im.unix(transport)
	switch {
	case transport == "lmtp" || sv != nil && sv.command == "lmtp":
		if file, ok := strings.CutPrefix(next, "unix:"); ok {
			m, ok := im.socket(p, file)
			return m, "", ok
		}
		h, ok := parseHop(next)
		if !ok {
			return "", "", false
		}
		if h.port == "" {
			h.port = "24"
		}
		return "lmtp " + quote(h.host+":"+h.port), "", true
	case sv != nil && sv.command == "pipe":
		return im.pipe(sv)
	}
	return "", "", false
}

// unix returns the service of a transport.
func (im *importer) unix(name string) *service {
	for _, sv := range im.services {
		if sv.name == name && sv.kind != "inet" {
			return sv
		}
	}
	return nil
}

func (im *importer) socket(p *param, file string) (method string, ok bool) {
	if queue := im.value("queue_directory"); !path.IsAbs(file) {
		file = path.Join(queue, file)
		im.note(p, diag.Portability, "postfix-mailbox", "the socket %s is in the queue of Postfix: have it made elsewhere before that goes, where this server may connect to it", clip(file))
	}
	return "lmtp " + quote(file), isPath(file)
}

// pipeMacros are what the command of a pipe can name.
var pipeMacros = map[string]string{
	"sender": "%{sender}", "recipient": "%{dest}", "original_recipient": "%{rcpt}", "user": "%{dest.user:strip}", "domain": "%{dest.domain}",
	"mailbox": "%{dest.user}",
}

// pipe converts a transport that runs a command.
func (im *importer) pipe(sv *service) (method, user string, ok bool) {
	text := " " + strings.Join(sv.args, " ")
	_, command, ok := strings.Cut(text, " argv=")
	if !ok {
		return "", "", false
	}
	for macro, with := range pipeMacros {
		command = strings.ReplaceAll(command, "${"+macro+"}", with)
	}
	if !quotable(command) || strings.ContainsAny(command, "\"'$`") {
		im.serviceNote(sv, "the command of the service "+clip(sv.name)+" cannot be carried over: put it into a script, and call that with `mda`")
		return "", "", false
	}
	for _, a := range sv.args {
		if u, ok := strings.CutPrefix(a, "user="); ok {
			user, _, _ = strings.Cut(u, ":")
		}
	}
	if strings.Trim(user, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
		user = ""
	}
	im.serviceNote(sv, "the service "+clip(sv.name)+" is carried over as a command: its flags are not, look whether it is right")
	return "mda " + quote(command), user, true
}

// everybody returns the option to deliver as one user, whoever the recipient
// is. Mail for virtual mailboxes has a user of the system here.
func (im *importer) everybody(p *param, user string) string {
	if user == "" {
		user = virtualUser
		im.note(p, diag.Warning, "postfix-mailbox", "mail for virtual mailboxes is delivered as the user %s, who must be one of the system", user)
	}
	return ` virtual { "@" = ` + quote(user) + " }"
}

// mailboxes returns the action for virtual mailboxes.
func (im *importer) mailboxes() string {
	p := im.main.lookup("virtual_transport")
	value := im.value("virtual_transport")
	var method, user string
	ok := true
	switch transport, _, _ := strings.Cut(value, ":"); transport {
	case "virtual":
		method = im.mailboxPath()
	case "local":
		return im.local()
	default:
		method, user, ok = im.deliverBy(p, value)
	}
	if !ok {
		im.note(p, diag.Warning, "postfix-transport", "virtual_transport = %s is not understood: mail for virtual mailboxes is refused", clip(value))
		return rejecting
	}
	if method == rejecting {
		return rejecting
	}
	if strings.HasPrefix(method, "lmtp ") {
		method += " rcpt-to"
	}
	im.used["virtual_gid_maps"], im.used["virtual_uid_maps"] = true, true
	if of := im.main.lookup("virtual_uid_maps"); of != nil {
		p = of
	}
	return im.action("mailboxes", method+im.everybody(p, user))
}

// mailboxPath returns the method for the mailboxes that Postfix writes itself.
func (im *importer) mailboxPath() string {
	base := im.value("virtual_mailbox_base")
	pattern := ""
	sure := false
	for _, r := range im.maps("virtual_mailbox_maps") {
		entries, ok := im.entries(r)
		sure = ok
		for _, e := range entries {
			user, domain, hasDomain := strings.Cut(e.Key, "@")
			if !hasDomain || user == "" {
				continue
			}
			got := strings.Replace(e.Value, domain, "%{dest.domain}", 1)
			got = strings.Replace(got, user, "%{dest.user}", 1)
			if pattern == "" {
				pattern = got
			}
			sure = sure && got == pattern
		}
	}
	if !strings.HasSuffix(pattern, "/") || !quotable(pattern) {
		pattern, sure = "%{dest.domain}/%{dest.user}/", false
	}
	full := path.Join("/", base, pattern)
	if !quotable(full) {
		full, sure = "/var/mail/"+pattern, false
	}
	if !sure {
		im.note(im.main.lookup("virtual_mailbox_maps"), diag.Warning, "postfix-mailbox",
			"a path for each mailbox cannot be carried over: all are at %s now", strings.TrimSuffix(full, "/")).
			Help = []string{"move those that are elsewhere"}
	}
	return "maildir " + quote(strings.TrimSuffix(full, "/"))
}

// aliases returns the option for the aliases of this host.
func (im *importer) aliases() string {
	refs := im.maps("alias_maps")
	if len(refs) == 0 {
		return ""
	}
	p := im.main.lookup("alias_maps")
	if len(refs) > 1 {
		names := make([]string, len(refs))
		for i, r := range refs {
			names[i] = r.String()
		}
		im.note(p, diag.Warning, "postfix-map", "alias_maps: there is one table of aliases, %s: append to it what is in %s", names[0], clip(strings.Join(slices.Clone(names[1:]), ", ")))
	}
	return " alias <" + im.table(p, refs[0], "aliases", true) + ">"
}
