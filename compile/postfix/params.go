package postfix

import (
	"slices"
	"strings"

	"smtpd/lang/diag"
)

// notCarried says that a parameter is left out.
func (im *importer) notCarried(name string) {
	p := im.main.lookup(name)
	value := ""
	if p != nil {
		value = p.value
	}
	d := im.note(p, diag.Warning, "postfix-parameter", "%s = %s is not carried over", clip(name), clip(value))
	if text := hints[name]; text != "" && d.Code != "" {
		d.Help = []string{text}
	}
}

// hints say what to do about parameters without a counterpart.
var hints = map[string]string{
	"header_checks":                       "filters see the lines of a message: a program of your own, with `filter NAME proc-exec`",
	"body_checks":                         "filters see the lines of a message: a program of your own, with `filter NAME proc-exec`",
	"smtpd_sender_login_maps":             "`senders <TABLE>` on a listener: the table has a line for each user, with the addresses that he may send from",
	"sender_canonical_maps":               "`mail-from` of a relay action replaces the sender",
	"masquerade_domains":                  "`mail-from \"@DOMAIN\"` of a relay action replaces the domain of the sender",
	"smtp_generic_maps":                   "`mail-from` of a relay action replaces the sender",
	"canonical_maps":                      "`virtual` of an action replaces recipients, `mail-from` of a relay action senders",
	"recipient_canonical_maps":            "`virtual` of an action replaces recipients",
	"luser_relay":                         "an entry `@` in a table of `virtual` is for everybody who is not there",
	"sender_dependent_relayhost_maps":     "a rule with `mail-from <TABLE>` and an action of its own, before the others, relays by sender",
	"smtpd_tls_mandatory_protocols":       "`protocols` on a listener says which versions of TLS there are",
	"smtpd_tls_protocols":                 "`protocols` on a listener says which versions of TLS there are",
	"smtp_tls_protocols":                  "`protocols` of a relay action says which versions of TLS there are",
	"smtpd_client_connection_count_limit": "`smtp limit max-conn-per-source` is how many sessions one source may have",
	"local_recipient_maps":                "a recipient must be an alias or a user of the system",
	"inet_protocols":                      "`mta limit inet4` or `inet6` is for mail that leaves",
}

// silent are parameters that change nothing of what is carried over: paths
// and users of Postfix, its processes, how it writes to its log, and what the
// server does or does not do anyway.
var silent = []string{
	"2bounce_notice_recipient", "access_map_", "address_verify_", "alias_database", "allow_percent_hack", "anvil_",
	"append_at_myorigin", "append_dot_mydomain", "application_event_drain_time", "berkeley_db_", "biff", "bounce_notice_recipient",
	"broken_sasl_auth_clients", "cleanup_service_name", "command_directory", "compatibility_level", "config_directory", "confirm_delay_cleared",
	"daemon_", "data_directory", "debug", "default_database_type", "default_process_limit", "disable_vrfy_command", "enable_long_queue_ids",
	"export_environment", "fork_", "hash_queue", "html_directory", "import_environment", "in_flow_delay", "ipc_", "line_length_limit", "lmdb_",
	"mail_name", "mail_owner", "mail_version", "mailq_path", "maillog_", "manpage_directory", "max_idle", "max_use", "message_reject_characters",
	"meta_directory", "milter_", "minimal_backoff_time", "maximal_backoff_time", "multi_instance_", "myhostname", "mydomain", "myorigin",
	"newaliases_path", "notify_classes", "process_id", "parent_domain_matches_subdomains", "queue_directory", "queue_run_delay",
	"readme_directory", "sample_directory", "sendmail_path", "setgid_group", "shlib_directory", "show_user_unknown_table_name",
	"smtp_destination_", "smtp_tls_loglevel", "smtp_tls_session_cache", "smtp_tls_note_starttls_offer", "smtp_sasl_security_options",
	"smtp_sasl_tls_security_options", "smtp_sasl_mechanism_filter", "smtp_tls_CApath", "smtp_tls_CAfile", "smtp_use_tls", "smtp_enforce_tls",
	"smtpd_banner", "smtpd_delay_reject", "smtpd_error_sleep_time", "smtpd_hard_error_limit", "smtpd_helo_required", "smtpd_soft_error_limit",
	"smtpd_sasl_local_domain", "smtpd_sasl_path", "smtpd_sasl_security_options", "smtpd_sasl_tls_security_options", "smtpd_sasl_authenticated_header",
	"smtpd_tls_CApath", "smtpd_tls_CAfile", "smtpd_tls_ask_ccert", "smtpd_tls_auth_only", "smtpd_tls_loglevel", "smtpd_tls_received_header",
	"smtpd_tls_session_cache", "smtpd_use_tls", "smtpd_enforce_tls", "smtpd_restriction_classes", "smtputf8_", "soft_bounce",
	"strict_rfc821_envelopes", "swap_bangpath", "syslog_", "tls_random", "tls_preempt_cipherlist", "tls_ssl_options", "unknown_local_recipient_reject_code",
	"virtual_alias_expansion_limit", "virtual_alias_recursion_limit", "virtual_mailbox_base", "virtual_minimum_uid",
}

// ordinary are values that say no more than what is done anyway.
var ordinary = map[string][]string{
	"mailbox_size_limit": {"0", "51200000"}, "virtual_mailbox_limit": {"0"}, "inet_protocols": {"all"},
	"local_recipient_maps":    {"proxy:unix:passwd.byname $alias_maps", "unix:passwd.byname $alias_maps"},
	"smtpd_data_restrictions": {"reject_unauth_pipelining"}, "smtp_address_preference": {"any"},
	"smtpd_sasl_type":       {"cyrus", "dovecot"},
	"smtpd_tls_eecdh_grade": {"auto", "strong", "ultra"},
	"mail_spool_directory":  {"/var/mail", "/var/spool/mail", "/var/mail/", "/var/spool/mail/"},
	"smtp_host_lookup":      {"dns", "native", "dns, native", "native, dns"},
}

// isSilent reports whether a parameter may be passed over.
func isSilent(name string) bool {
	return slices.ContainsFunc(silent, func(s string) bool {
		return name == s || strings.HasPrefix(name, s) && (strings.HasSuffix(s, "_") || strings.HasPrefix(name[len(s):], "_"))
	})
}

// rest says which parameters nobody has asked for.
func (im *importer) rest() {
	referenced := make(map[string]bool)
	for _, p := range im.order {
		for _, name := range references(p.value) {
			referenced[name] = true
		}
	}
	for _, sv := range im.services {
		for _, p := range sv.params {
			for _, name := range references(p.value) {
				referenced[name] = true
			}
		}
	}
	for _, p := range im.order {
		if im.used[p.name] || isSilent(p.name) || p.value == "" && p.name != "local_recipient_maps" || slices.Contains(ordinary[p.name], p.value) {
			continue
		}
		if _, known := defaults[p.name]; referenced[p.name] && !known {
			continue // it is there for others
		}
		im.notCarried(p.name)
	}
	for _, sv := range im.services {
		if sv.kind != "inet" || sv.command != "smtpd" {
			continue
		}
		var left []string
		for name, p := range sv.params {
			if !im.used[name] && !isSilent(name) && name != "receive_override_options" && !slices.Contains(ordinary[name], p.value) && p.value != "" {
				left = append(left, name)
			}
		}
		if len(left) > 0 {
			slices.Sort(left)
			im.serviceNote(sv, "the service "+clip(sv.name)+": not carried over: "+clip(strings.Join(left, ", ")))
		}
	}
}

// references returns the parameters that a value refers to.
func references(value string) []string {
	var list []string
	for {
		_, rest, ok := strings.Cut(value, "$")
		if !ok {
			return list
		}
		rest = strings.TrimLeft(rest, "{(")
		n := nameLen(rest)
		list, value = append(list, rest[:n]), rest[n:]
	}
}

// names says what has to be done about the names of this host.
func (im *importer) names() {
	if p := im.main.lookup("myhostname"); p != nil && im.hostname() != "" && im.hostname() != strings.ToLower(im.opts.ServerName) {
		im.note(p, diag.Warning, "postfix-hostname", "the name of this host comes from the file mailname: put %q there", im.hostname()).
			Help = []string{"the name is written at the listeners and relays, but reports of delivery and mail from the host itself have that of the file"}
	}
	p := im.main.lookup("myorigin")
	origin := im.value("myorigin")
	if p == nil || origin == unnamed || strings.EqualFold(origin, im.hostname()) {
		return
	}
	if origin == "/etc/mailname" {
		// This server takes its name from that file.
		return
	}
	im.note(p, diag.Warning, "postfix-hostname", "an address without a domain gets that of the host here, and got %s: put that into the file mailname if it matters more", clip(strings.ReplaceAll(origin, unnamed, "the host's")))
}
