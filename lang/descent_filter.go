package lang

import "smtpd/ast"

func (d *descent) filter() *ast.Filter {
	f := new(ast.Filter)
	if !d.str(&f.Name) {
		return nil
	}
	at := d.peek().pos
	switch {
	case d.kw("proc"):
		f.Proc = d.newStr()
		f.OnFailure = d.onFailure()
	case d.kw("proc-exec"):
		p := new(ast.ProcExec)
		if d.str(&p.Command) {
			p.Options = d.procOptions()
			f.ProcExec = p
		}
		f.OnFailure = d.onFailure()
	case d.own("milter"):
		m := &ast.Milter{Pos: at}
		if d.str(&m.Address) {
			f.Milter = m
		}
		f.OnFailure = d.onFailure()
	case d.kw("chain"):
		f.KindPos = at
		f.Chain = d.list(true)
	case d.kw("phase"):
		f.KindPos = at
		f.Phase = d.phase()
	default:
		d.fail()
	}
	return f
}

func (d *descent) onFailure() *ast.OnFailure {
	f := &ast.OnFailure{Pos: d.peek().pos}
	if d.failed || !d.own("on-failure") {
		return nil
	}
	d.wantKw("bypass")
	if d.failed {
		return nil
	}
	f.Bypass, f.EndPos = true, d.end
	return f
}

func (d *descent) phase() *ast.Phase {
	ph := &ast.Phase{Pos: d.peek().pos, Name: d.word()}
	rule, ok := phaseRules[ph.Name]
	if !ok {
		d.fail()
		return nil
	}
	d.take()
	d.wantKw("match")
	ph.Not = d.op("!")
	if !rule.takes(d.word()) {
		d.fail()
	}
	ph.Condition = d.condition()
	if !rule.takes(d.word()) {
		d.fail()
	}
	ph.Decision = d.decision()
	ph.EndPos = d.end
	return ph
}

func (d *descent) condition() *ast.Condition {
	c := &ast.Condition{Pos: d.peek().pos}
	switch {
	case d.kw("fcrdns"):
		c.FCrDNS = true
	case d.kw("rdns"):
		c.RDNS = d.optPattern()
	case d.kw("src"):
		c.Src = d.pattern()
	case d.kw("helo"):
		c.Helo = d.pattern()
	case d.kw("auth"):
		c.Auth = d.optPattern()
	case d.kw("mail-from"):
		c.MailFrom = d.pattern()
	case d.kw("rcpt-to"):
		c.RcptTo = d.pattern()
	default:
		d.fail()
	}
	if d.failed {
		return nil
	}
	c.EndPos = d.end
	return c
}

func (d *descent) pattern() *ast.Pattern {
	p := d.patterns.new()
	p.Regex = d.kw("regex")
	p.Table = d.tableArg()
	return p
}

func (d *descent) optPattern() *ast.OptPattern {
	p := new(ast.OptPattern)
	if p.Regex = d.kw("regex"); p.Regex {
		p.RegexTable = d.tableArg()
	} else {
		p.Table = d.optTableArg()
	}
	return p
}

func (d *descent) decision() *ast.Decision {
	dec := &ast.Decision{Pos: d.peek().pos}
	switch {
	case d.kw("reject"):
		dec.Reject = d.newStr()
	case d.kw("disconnect"):
		dec.Disconnect = d.newStr()
	case d.kw("rewrite"):
		dec.Rewrite = d.newStr()
	case d.kw("report"):
		dec.Report = d.newStr()
	case d.kw("junk"):
		dec.Junk = true
	case d.kw("bypass"):
		dec.Bypass = true
	default:
		d.fail()
	}
	if d.failed {
		return nil
	}
	dec.EndPos = d.end
	return dec
}

func (d *descent) filterRef() *ast.FilterRef {
	r := new(ast.FilterRef)
	if d.peek().is(punct, "{") {
		r.Chain = d.list(true)
	} else {
		r.Name = d.newStr()
	}
	return r
}
