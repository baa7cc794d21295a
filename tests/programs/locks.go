// Deadlocks of goroutines, run as PROG SCENARIO: what waits is a goroutine, not a thread.
package main

import (
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	sceneSeconds    = 300
	prSetPdeathsig  = 1
	prSetPtracer    = 0x59616d61
	prSetPtracerAny = ^uintptr(0)
)

var held int32

// hold says that the caller holds what it is to hold and waits until others do, too.
func hold(holders int32) {
	atomic.AddInt32(&held, 1)
	for atomic.LoadInt32(&held) < holders {
		time.Sleep(time.Millisecond)
	}
}

// ready is said by the last one; the runtime's threads are nobody's in particular.
func ready() {
	syscall.Write(1, []byte("ready\n"))
}

// Keeps the runtime from seeing that all goroutines are asleep.
func tick() {
	for range time.Tick(100 * time.Millisecond) {
	}
}

func cross(one, other sync.Locker) {
	lock := func(first, second sync.Locker) {
		first.Lock()
		hold(2)
		second.Lock()
	}
	go tick()
	go lock(one, other)
	go lock(other, one)
	for atomic.LoadInt32(&held) < 2 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(10 * time.Millisecond)
	ready()
	select {}
}

func channels() {
	question, answer := make(chan int), make(chan int)
	go tick()
	go func() { answer <- <-question }()
	go func() { question <- <-answer }()
	ready()
	select {}
}

// server waits for connections that nobody makes, as an idle net/http server does.
func server() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		syscall.Write(1, []byte("skip no TCP\n"))
		os.Exit(77)
	}
	ready()
	for {
		connection, err := listener.Accept()
		if err == nil {
			go connection.Close()
		}
	}
}

func main() {
	syscall.RawSyscall(syscall.SYS_PRCTL, prSetPdeathsig, uintptr(syscall.SIGKILL), 0)
	syscall.RawSyscall(syscall.SYS_PRCTL, prSetPtracer, prSetPtracerAny, 0)
	time.AfterFunc(sceneSeconds*time.Second, func() { os.Exit(1) })
	say := fmt.Sprintf("tid main %d %d\n", syscall.Getpid(), syscall.Getpid())
	syscall.Write(1, []byte(say))
	scenes := map[string]func(){
		"mutex":    func() { cross(new(sync.Mutex), new(sync.Mutex)) },
		"rwmutex":  func() { cross(new(sync.RWMutex), new(sync.RWMutex)) },
		"channels": channels,
		"server":   server,
	}
	if len(os.Args) < 2 || scenes[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: locks SCENARIO")
		os.Exit(2)
	}
	scenes[os.Args[1]]()
}
