package stat

import (
	"runtime/metrics"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const startName = "smtpd_process_start_timestamp_seconds"

// A process is what is known of this process, told when it is asked for.
type process struct {
	start                    float64
	cpu, memory, work, began *prometheus.Desc
}

var described sync.Once

// DescribeProcess has this process count what it uses itself, under the name of
// the component that it runs. All of it can be told from inside a sandbox.
func DescribeProcess(component string) {
	described.Do(func() {
		desc := func(name, help string) *prometheus.Desc {
			return prometheus.NewDesc(name, help, nil, prometheus.Labels{"component": component})
		}
		registry.MustRegister(&process{
			start:  float64(time.Now().Unix()),
			cpu:    desc("smtpd_process_cpu_seconds_total", "CPU time that the process has used."),
			memory: desc("smtpd_process_memory_bytes", "Memory that the process has from the system and has not given back."),
			work:   desc("smtpd_process_goroutines", "Goroutines of the process."),
			began:  desc(startName, "When the process was started."),
		})
	})
}

// Describe implements prometheus.Collector.
func (p *process) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{p.cpu, p.memory, p.work, p.began} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (p *process) Collect(c chan<- prometheus.Metric) {
	s := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}, {Name: "/sched/goroutines:goroutines"},
	}
	metrics.Read(s)
	gauge := func(d *prometheus.Desc, v float64) { c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	c <- prometheus.MustNewConstMetric(p.cpu, prometheus.CounterValue, cpuSeconds())
	gauge(p.memory, float64(s[0].Value.Uint64()-s[1].Value.Uint64()))
	gauge(p.work, float64(s[2].Value.Uint64()))
	gauge(p.began, p.start)
}
