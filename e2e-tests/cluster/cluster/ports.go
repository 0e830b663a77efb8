package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
)

// freePorts finds as many different ports on loopback, below the range that
// the kernel gives to outgoing connections. A port inside that range could be
// lost while the API server is stopped: to any connection, and to a retrying
// client's own, which can even connect to itself.
func freePorts(count int) ([]int, error) {
	const lowest = 15000
	highest := 32767
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		var first, last int
		if _, err := fmt.Sscan(string(text), &first, &last); err == nil && first > lowest+1000 {
			highest = first - 1
		}
	}
	var ports []int
	var refused error
	for range 100 * count {
		port := lowest + rand.IntN(highest-lowest)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			refused = err
			continue
		}
		// Held until all are found, so that none is found twice.
		defer listener.Close()
		if ports = append(ports, port); len(ports) == count {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("no %d free ports on 127.0.0.1 between %d and %d: %w", count, lowest, highest, refused)
}
