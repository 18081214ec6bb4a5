// SPDX-License-Identifier: Apache-2.0

// Command undo is what somebody in a container does who wants back what the flags of its grant took.
// It prints for each attempt how that ended: "done", or the kernel's error.
// usage: undo CAPABILITY...  (numbers, of those that were dropped)
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	runtime.LockOSThread()
	if len(os.Args) == 2 && os.Args[1] == "nothing" {
		return
	}
	say("setgroups", setgroups())
	say("no-new-privs off", prctl(unix.PR_SET_NO_NEW_PRIVS, 0))
	say("user namespace", inNewUserNS(0))
	say("sysctl", write("/proc/sys/user/max_user_namespaces", "100000"))
	say("sysctl of the parent's", parentSysctl())
	say("user namespace after that", inNewUserNS(0))
	say("user namespace with others", inNewUserNS(unix.CLONE_NEWPID|unix.CLONE_NEWNS))
	say("parent's user namespace", joinParent())
	say("mount", unix.Mount("tmpfs", "/tmp", "tmpfs", 0, ""))
	say("mask off", unix.Unmount("/proc/sys", 0))
	say("remount /sys", unix.Mount("", "/sys", "", unix.MS_REMOUNT|unix.MS_BIND, ""))
	_ = unix.Unlink("/tmp/node")
	say("mknod", unix.Mknod("/tmp/node", unix.S_IFBLK|0o666, int(unix.Mkdev(8, 0))))
	say("open devices", openNodes(os.Getenv("NODES")))
	for _, text := range os.Args[1:] {
		number, err := strconv.Atoi(text)
		if err != nil {
			fmt.Fprintln(os.Stderr, "usage: undo CAPABILITY...")
			os.Exit(2)
		}
		say("capset "+text, capset(number))
		say("ambient "+text, prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(number)))
		say("bounding "+text, bounding(number))
	}
}

func say(what string, err error) {
	result := "done"
	if err != nil {
		result = err.Error()
		var errno syscall.Errno
		if errors.As(err, &errno) {
			result = unix.ErrnoName(errno)
		}
	}
	fmt.Printf("%s: %s\n", what, result)
}

func prctl(option int, args ...uintptr) error {
	var a [4]uintptr
	copy(a[:], args)
	return unix.Prctl(option, a[0], a[1], a[2], a[3])
}

func setgroups() error {
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0)
	if errno == 0 {
		return nil
	}
	return errno
}

// inNewUserNS starts a program in a user namespace of its own.
func inNewUserNS(others uintptr) error {
	cmd := exec.Command("/proc/self/exe", "nothing")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | others}
	return cmd.Run()
}

func write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

// parentSysctl looks for a proc that shows the sysctls of the namespace above: of no mount that root
// inside can make, nor of the one that is there, which shows the reader's.
func parentSysctl() error {
	if err := os.MkdirAll("/tmp/proc", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/tmp/proc", "proc", 0, ""); err != nil {
		return err
	}
	defer func() { _ = unix.Unmount("/tmp/proc", 0) }()
	return write("/tmp/proc/sys/user/max_user_namespaces", "100000")
}

// joinParent goes up, if it is let.
func joinParent() error {
	f, err := os.Open("/proc/self/ns/user")
	if err != nil {
		return err
	}
	defer f.Close()
	fd, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_PARENT)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Setns(fd, unix.CLONE_NEWUSER)
}

// capset takes a capability into every set of the thread that it can be in.
func capset(number int) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return err
	}
	bit := uint32(1) << (number % 32)
	s := &sets[number/32]
	s.Permitted, s.Effective, s.Inheritable = s.Permitted|bit, s.Effective|bit, s.Inheritable|bit
	return unix.Capset(&header, &sets[0])
}

// bounding says "done" of one that an execve(2) could give.
func bounding(number int) error {
	has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(number), 0, 0, 0)
	if err == nil && has == 0 {
		return syscall.EPERM
	}
	return err
}

// openNodes opens the device nodes in a directory, until one lets it.
func openNodes(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	err = fs.ErrNotExist
	for _, e := range entries {
		fd, openErr := unix.Open(dir+"/"+e.Name(), unix.O_RDONLY|unix.O_NONBLOCK, 0)
		if openErr == nil {
			unix.Close(fd)
			return nil
		}
		err = openErr
	}
	return err
}
