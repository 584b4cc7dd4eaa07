package gen2

import "smtpd/ast/old"

func (g *grammar) listen() *old.Listen {
	l := &old.Listen{}
	g.Want("on")
	if g.Take("socket") {
		l.Socket = true
		for !g.Ended() && g.socketOption(l) {
		}
		return l
	}
	l.On = *g.Str()
	for !g.Ended() && (g.listenOption(l) || g.secureOption(l)) {
	}
	return l
}

func (g *grammar) socketOption(l *old.Listen) bool {
	switch g.TakeOneOf("filter", "mask-source", "tag") {
	case "filter":
		l.Filter = g.Str()
	case "mask-source":
		l.MaskSource = true
	case "tag":
		g.Note("the socket had no tag of its own before 6.7; its tag was `local`")
		l.Tag = g.Str()
	default:
		return false
	}
	return true
}

func (g *grammar) listenOption(l *old.Listen) bool {
	switch w := g.TakeOneOf("inet4", "inet6", "port", "filter", "tag", "hostname", "hostnames", "mask-source", "received-auth",
		"no-dsn", "senders", "dsn-notify", "dsn-ret"); w {
	case "inet4", "inet6":
		l.Family = w
	case "port":
		l.Port = g.StrOrNumber()
	case "filter":
		l.Filter = g.Str()
	case "tag":
		l.Tag = g.Str()
	case "hostname":
		l.Hostname = g.Str()
	case "hostnames":
		l.Hostnames = g.TableArg()
	case "mask-source":
		l.MaskSource = true
	case "received-auth":
		l.ReceivedAuth = true
	case "no-dsn":
		l.NoDSN = true
	case "senders":
		l.Senders = g.TableArg()
		l.Masquerade = g.Take("masquerade")
	case "dsn-notify":
		g.Want("disable")
		l.DSNNotify = true
	case "dsn-ret":
		g.Want("headers")
		l.DSNRet = true
	default:
		return false
	}
	return true
}

// secureOption takes what a listener says of TLS and of who may use it.
func (g *grammar) secureOption(l *old.Listen) bool {
	switch w := g.TakeOneOf("smtps", "tls", "tls-require", "secure", "ssl", "pki", "ca", "certificate", "auth", "auth-optional"); w {
	case "smtps", "tls", "tls-require", "secure", "ssl":
		g.Dup(l.TLS != "", w)
		l.TLS = w
		l.Verify = (w == "smtps" || w == "tls-require") && g.Take("verify")
	case "pki":
		l.PKI = g.Str()
	case "ca":
		l.CA = g.Str()
	case "certificate":
		l.Certificate = g.Str()
	case "auth", "auth-optional":
		g.Dup(l.Auth != "", w)
		l.Auth = w
		l.AuthTable = g.optTable()
	default:
		return false
	}
	return true
}
