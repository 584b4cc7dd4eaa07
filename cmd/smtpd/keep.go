package main

import (
	"reflect"

	"smtpd/compile"
)

// keepers name what each component keeps of the Ruleset. A process is given
// that and nothing else: what it was never told it cannot leak.
var keepers = map[string]func(part, rs *compile.Ruleset){
	"smtp": func(part, rs *compile.Ruleset) {
		part.Listeners, part.Socket, part.SMTP = rs.Listeners, rs.Socket, rs.SMTP
		part.Filters = filters(rs)
	},
	"mfa": func(part, rs *compile.Ruleset) {
		part.ADMD = rs.ADMD
		part.Rules, part.Filters, part.Socket, part.SMTP, part.SRS = rs.Rules, rs.Filters, rs.Socket, rs.SMTP, rs.SRS
		part.Actions = actions(rs, func(a *compile.Action) { a.Relay.Auth = 0 })
		for i := range rs.Listeners { // so that it can tell a program what it will hear of
			part.Listeners = append(part.Listeners, compile.Listener{Filter: rs.Listeners[i].Filter})
		}
		for _, p := range rs.Procs {
			part.Procs = append(part.Procs, compile.Proc{Name: p.Name})
		}
		fill(part, rs)
	},
	"lka": func(part, rs *compile.Ruleset) {
		part.Tables, part.SMTP.SubAddrDelim = rs.Tables, rs.SMTP.SubAddrDelim
	},
	"queue": func(part, rs *compile.Ruleset) {
		part.Queue, part.Scheduler, part.MDA, part.MTA, part.Bounce = rs.Queue, rs.Scheduler, rs.MDA, rs.MTA, rs.Bounce
		part.Actions = actions(rs, func(a *compile.Action) {
			*a = compile.Action{Name: a.Name, Method: a.Method, TTL: a.TTL, Relay: compile.RelayOptions{Host: a.Relay.Host}}
		})
	},
	"mda": func(part, rs *compile.Ruleset) {
		part.MDA, part.Wrappers, part.SMTP.SubAddrDelim = rs.MDA, rs.Wrappers, rs.SMTP.SubAddrDelim
		part.Actions = actions(rs, func(a *compile.Action) { a.Relay = compile.RelayOptions{} })
	},
	"mta": func(part, rs *compile.Ruleset) {
		part.MTA, part.SRS, part.SMTP.Ciphers = rs.MTA, rs.SRS, rs.SMTP.Ciphers
		part.Filters = filters(rs)
		part.Actions = actions(rs, func(a *compile.Action) {
			*a = compile.Action{Name: a.Name, Method: a.Method, TTL: a.TTL, Origin: a.Origin, Relay: a.Relay}
		})
		for i := range rs.Listeners { // so that it does not call this host
			part.Listeners = append(part.Listeners, compile.Listener{Addr: rs.Listeners[i].Addr, Port: rs.Listeners[i].Port})
		}
		if rs.Local != 0 { // on all of its addresses
			part.Tables[rs.Local-1].Entries = rs.Table(rs.Local).Entries
		}
	},
}

// keep returns the part of rs that the component called name keeps, nil if it
// keeps nothing. Ids are those of rs.
func keep(name string, rs *compile.Ruleset) *compile.Ruleset {
	f, ok := keepers[name]
	if !ok {
		return nil
	}
	part := &compile.Ruleset{
		ServerName: rs.ServerName,
		Local:      rs.Local, LocalNames: rs.LocalNames, AnyHost: rs.AnyHost, AnyDest: rs.AnyDest,
		Tables: make([]compile.Table, len(rs.Tables)),
	}
	for i := range rs.Tables {
		part.Tables[i] = rs.Tables[i]
		part.Tables[i].Entries, part.Tables[i].Config = nil, ""
	}
	f(part, rs)
	return part
}

func actions(rs *compile.Ruleset, change func(a *compile.Action)) []compile.Action {
	l := append([]compile.Action(nil), rs.Actions...)
	for i := range l {
		change(&l[i])
	}
	return l
}

// filters returns what those know who have filters asked and told: mfa has what
// they do.
func filters(rs *compile.Ruleset) []compile.Filter {
	var l []compile.Filter
	for i := range rs.Filters {
		f := &rs.Filters[i]
		l = append(l, compile.Filter{Proc: f.Proc, Milter: f.Milter, Chain: f.Chain, Phase: f.Phase})
	}
	return l
}

// fill gives part the content of the tables that it decides by: inline ones,
// and of files what rules and filters look into, until lka has something newer.
// Passwords in a table of a listener or of a relay are none of them.
func fill(part, rs *compile.Ruleset) {
	decides, used := make(map[compile.TableID]bool), make(map[compile.TableID]bool)
	collect(reflect.ValueOf(part.Rules), decides)
	collect(reflect.ValueOf(part.Filters), decides)
	collect(reflect.ValueOf(*part), used)
	for i := range part.Tables {
		id := compile.TableID(i + 1)
		if decides[id] || used[id] && rs.Tables[i].Path == "" {
			part.Tables[i].Entries = rs.Tables[i].Entries
		}
	}
}

var tableID = reflect.TypeFor[compile.TableID]()

// collect adds the ids of tables in v to ids.
func collect(v reflect.Value, ids map[compile.TableID]bool) {
	switch {
	case v.Type() == tableID:
		ids[compile.TableID(v.Uint())] = true
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			collect(v.Field(i), ids)
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			collect(v.Index(i), ids)
		}
	}
}
