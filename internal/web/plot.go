package web

import (
	"fmt"
	"strings"
	"time"
)

// A plot is bars over time. Its marks are in hundredths of its size, so that
// one drawing fits every width; what is to be read stands beside it as text.
type plot struct {
	Title  string
	Max    uint64 // the value at the top
	Series []series
	Bars   []bar
	Ticks  []time.Time
}

// A series is one of the values that are stacked.
type series struct {
	Name, Class string
	Total       uint64
}

// A bar is one period.
type bar struct {
	X, Width float64
	Label    string
	Known    bool
	Marks    []mark
}

// A mark is one of the values of a bar.
type mark struct {
	Class     string
	Y, Height float64
}

// newPlot stacks what values returns of each period.
func newPlot(title string, l []period, all []series, values func(*period) []uint64) *plot {
	p := &plot{Title: title, Series: all}
	for i := range l {
		var sum uint64
		for _, v := range values(&l[i]) {
			sum += v
		}
		p.Max = max(p.Max, sum)
	}
	p.Max = roundUp(p.Max)
	width := 100 / float64(len(l))
	for i := range l {
		b := bar{X: float64(i) * width, Width: width, Known: l[i].Known}
		if b.Known { // others are no bars but a time of which nothing is known
			b.Width *= 0.82
		}
		label := []string{l[i].From.Local().Format("15:04")}
		if !b.Known {
			label = append(label, "not known")
		}
		y := 100.0
		for k, v := range values(&l[i]) {
			height := 100 * float64(v) / float64(p.Max)
			y -= height
			if v > 0 {
				b.Marks = append(b.Marks, mark{all[k].Class, y, height})
			}
			p.Series[k].Total += v
			if b.Known {
				label = append(label, fmt.Sprintf("%s %d", all[k].Name, v))
			}
		}
		b.Label = strings.Join(label, ", ")
		p.Bars = append(p.Bars, b)
	}
	for i := 0; i < len(l); i += len(l) / 4 {
		p.Ticks = append(p.Ticks, l[i].From)
	}
	return p
}

// roundUp returns the next number that is easily read at the top of a plot.
func roundUp(n uint64) uint64 {
	for scale := uint64(1); scale < 1<<58; scale *= 10 {
		for _, step := range [...]uint64{10, 15, 20, 30, 40, 50, 60, 80} {
			if top := step * scale / 10; top >= n && top >= 4 {
				return top
			}
		}
	}
	return n
}

func deliveryPlot(l []period) *plot {
	return newPlot("Deliveries", l, []series{{"delivered", "ok", 0}, {"put off", "warn", 0}, {"failed", "bad", 0}},
		func(p *period) []uint64 { return []uint64{p.OK, p.TempFail, p.PermFail} })
}

func rcptPlot(l []period) *plot {
	return newPlot("Recipients", l, []series{{"accepted", "ok", 0}, {"refused", "bad", 0}},
		func(p *period) []uint64 { return []uint64{p.Accepted, p.Refused} })
}

func queuePlot(l []period) *plot {
	p := newPlot("Envelopes in the queue", l, []series{{"queued", "line", 0}}, func(p *period) []uint64 { return []uint64{p.Queued} })
	p.Series[0].Total = l[len(l)-1].Queued // to add them up means nothing
	return p
}
