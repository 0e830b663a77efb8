package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
)

// freePort finds a port on loopback below the range that the kernel gives to
// outgoing connections. A port inside that range could be lost while the API
// server is stopped: to any connection, and to a retrying client's own, which
// can even connect to itself.
func freePort() (int, error) {
	const lowest = 15000
	highest := 32767
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		var first, last int
		if _, err := fmt.Sscan(string(text), &first, &last); err == nil && first > lowest+1000 {
			highest = first - 1
		}
	}
	var err error
	for range 100 {
		port := lowest + rand.IntN(highest-lowest)
		var listener net.Listener
		if listener, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, listener.Close()
		}
	}
	return 0, fmt.Errorf("no free port on 127.0.0.1 between %d and %d: %w", lowest, highest, err)
}
