package main

import (
	"testing"

	"smtpd/compile"
)

func TestRounds(t *testing.T) {
	rs := &compile.Ruleset{Scheduler: compile.SchedulerLimits{MaxInflight: 7, MaxEvpBatchSize: 256, MaxMsgBatchSize: 1024, MaxSchedule: 10}}
	if l := rounds(rs); len(l) != 0 {
		t.Errorf("rounds of the defaults = %v", l)
	}
	rs.Scheduler.MaxSchedule = 11
	if l := rounds(rs); len(l) != 1 || l[0].Message != "scheduler limit max-schedule has no effect: mail is handed out when it is due" {
		t.Errorf("rounds = %v", l)
	}
}
