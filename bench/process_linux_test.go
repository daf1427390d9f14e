package main

import (
	"os"
	"testing"
	"time"
)

func TestCPUTimeOfAProcessGrowsAsItWorks(t *testing.T) {
	before, err := readCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	after := before
	for deadline := time.Now().Add(10 * time.Second); after-before < time.Millisecond; {
		if time.Now().After(deadline) {
			t.Fatalf("from %s to %s in ten seconds of work", before, after)
		}
		if after, err = readCPU(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
}
