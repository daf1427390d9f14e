package main

import (
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// endWithParent has the kernel kill the command when this program is gone, however it
// ended. The kernel means the thread that starts the command: main locks itself to its
// thread, which lasts as long as the program.
func endWithParent(command *exec.Cmd) {
	if command.SysProcAttr == nil {
		command.SysProcAttr = new(syscall.SysProcAttr)
	}
	command.SysProcAttr.Pdeathsig = syscall.SIGKILL
}

// runAs has the command run as a user.
func runAs(command *exec.Cmd, uid, gid uint32) {
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
}

// readCPU returns the CPU time of a process, in user and in system mode, of all its
// threads, also those that have ended. /proc/PID/stat has the same in steps of 10 ms,
// which is too coarse for a measurement of a second.
func readCPU(pid int) (time.Duration, error) {
	// The clock of a process, as clock_getcpuclockid(3) makes it: CPUCLOCK_SCHED is 2.
	clock := int32(^pid<<3 | 2)
	var now unix.Timespec
	if err := unix.ClockGettime(clock, &now); err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return time.Duration(now.Nano()), nil
}
