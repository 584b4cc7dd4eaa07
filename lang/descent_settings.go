package lang

import "smtpd/ast"

func (d *descent) bounce() *ast.Bounce {
	b := new(ast.Bounce)
	d.wantKw("warn-interval")
	for s := d.newStr(); s != nil; s = d.newStr() {
		b.Delays = append(b.Delays, s)
		if !d.op(",") {
			break
		}
	}
	return b
}

func (d *descent) ca() *ast.CA {
	c := new(ast.CA)
	if !d.str(&c.Name) {
		return nil
	}
	d.wantKw("cert")
	d.str(&c.Cert)
	return c
}

func (d *descent) pki() *ast.PKI {
	p := new(ast.PKI)
	if !d.str(&p.Name) {
		return nil
	}
	for {
		o := &ast.PKIOption{Pos: d.peek().pos}
		switch {
		case d.kw("cert"):
			o.Cert = d.newStr()
		case d.kw("key"):
			o.Key = d.newStr()
		case d.kw("dhe"):
			o.DHE = d.newStr()
		default:
			return p
		}
		if d.failed {
			return p
		}
		o.EndPos = d.end
		p.Options = append(p.Options, o)
	}
}

func (d *descent) limit() *ast.Limit {
	l := new(ast.Limit)
	d.str(&l.Name)
	if !d.num(&l.Value) {
		return nil
	}
	return l
}

func (d *descent) limits() *ast.Limits {
	l := &ast.Limits{Pos: d.peek().pos}
	for d.peek().isString() {
		if one := d.limit(); one != nil {
			l.Limits = append(l.Limits, one)
		}
	}
	l.EndPos = d.end
	return l
}

func (d *descent) mda() *ast.MDA {
	m := new(ast.MDA)
	switch {
	case d.kw("wrapper"):
		w := new(ast.Wrapper)
		d.str(&w.Name)
		if d.str(&w.Command) {
			m.Wrapper = w
		}
	case d.kw("limit"):
		m.Limit = d.limits()
	default:
		d.fail()
	}
	return m
}

func (d *descent) mta() *ast.MTA {
	m := new(ast.MTA)
	switch {
	case d.kw("max-deferred"):
		m.MaxDeferred = d.newNum()
	case d.kw("limit"):
		m.Limit = d.mtaLimits()
	default:
		d.fail()
	}
	return m
}

func (d *descent) mtaLimits() *ast.MTALimits {
	l := &ast.MTALimits{Pos: d.peek().pos}
	if d.kw("for") {
		d.wantKw("domain")
		l.Domain = d.newStr()
	}
	for {
		switch w := d.word(); {
		case w == "inet4" || w == "inet6":
			d.take()
			l.Limits = append(l.Limits, &ast.MTALimit{Family: w})
		case d.peek().isString():
			if one := d.limit(); one != nil {
				l.Limits = append(l.Limits, &ast.MTALimit{Limit: one})
			}
		default:
			l.EndPos = d.end
			return l
		}
	}
}

func (d *descent) queue() *ast.Queue {
	q := new(ast.Queue)
	pos := d.peek().pos
	switch {
	case d.kw("compression"):
		q.Compression = true
	case d.kw("encryption"):
		q.Encryption = &ast.Encryption{Pos: pos, Key: d.optStr()}
		q.Encryption.EndPos = d.end
	case d.kw("ttl"):
		q.TTL = d.newStr()
	default:
		d.fail()
	}
	return q
}

func (d *descent) smtp() *ast.SMTP {
	s := new(ast.SMTP)
	pos := d.peek().pos
	switch {
	case d.kw("limit"):
		s.Limit = d.limits()
	case d.kw("ciphers"):
		s.Ciphers = d.newStr()
	case d.kw("max-message-size"):
		if d.peek().kind == number {
			s.MaxMessageSize = &ast.Size{Num: d.newNum()}
		} else if size := d.newStr(); size != nil {
			s.MaxMessageSize = &ast.Size{Str: size}
		}
	case d.kw("sub-addr-delim"):
		s.SubAddrDelim = d.newStr()
	case d.own("bare-lf-from"):
		s.BareLF = &ast.BareLF{Pos: pos, From: d.tableArg()}
	default:
		d.fail()
	}
	return s
}

func (d *descent) srs() *ast.SRS {
	s := new(ast.SRS)
	switch {
	case d.kw("key"):
		if d.kw("backup") {
			s.Backup = d.newStr()
		} else {
			s.Key = d.newStr()
		}
	case d.kw("ttl"):
		s.TTL = d.newStr()
	default:
		d.fail()
	}
	return s
}

func (d *descent) proc() *ast.Proc {
	p := new(ast.Proc)
	d.str(&p.Name)
	if !d.str(&p.Command) {
		return nil
	}
	p.Options = d.procOptions()
	return p
}

func (d *descent) procOptions() (options []*ast.ProcOption) {
	for {
		o := &ast.ProcOption{Pos: d.peek().pos}
		switch {
		case d.kw("user"):
			o.User = d.newStr()
		case d.kw("group"):
			o.Group = d.newStr()
		case d.kw("chroot"):
			o.Chroot = d.newStr()
		default:
			return options
		}
		if d.failed {
			return options
		}
		o.EndPos = d.end
		options = append(options, o)
	}
}
