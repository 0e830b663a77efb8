package main

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	certutil "k8s.io/client-go/util/cert"
	"k8s.io/kubernetes/cmd/kubeadm/app/util/pkiutil"

	"image-pull-secrets/e2e-tests/cluster/cluster/registry"
)

// runRegistry is the part that every image comes from.
func runRegistry(arguments []string) int {
	flags := flag.NewFlagSet(registryName, flag.ContinueOnError)
	address := flags.String("address", "", "where images are pulled from, over TLS")
	control := flags.String("control", "", "where tests say what is accepted, without TLS")
	authorityFiles := flags.String("authority", "", "the authority's certificate and key, without .crt and .key")
	pulls := flags.String("pulls", "", "directory with the kubelets' records")
	if err := flags.Parse(arguments); err != nil {
		return 2
	}
	logger := log.New(os.Stderr, "", log.LstdFlags|log.Lmicroseconds)
	if err := serveRegistry(*address, *control, *authorityFiles, *pulls, logger); err != nil {
		logger.Print(err)
		return 1
	}
	return 0
}

func serveRegistry(address, control, authorityFiles, pulls string, logger *log.Logger) error {
	certificate, key, err := pkiutil.TryLoadCertAndKeyFromDisk(filepath.Dir(authorityFiles), filepath.Base(authorityFiles))
	if err != nil {
		return fmt.Errorf("cannot read the registry's authority: %w", err)
	}
	certificates := hostCertificates{authority: authority{certificate, key}}
	server := registry.NewServer(pulls, logger)
	images := &http.Server{
		Addr:      address,
		Handler:   server.Registry(),
		TLSConfig: &tls.Config{GetCertificate: certificates.get},
		ErrorLog:  logger,
	}
	failed := make(chan error, 2)
	go func() { failed <- images.ListenAndServeTLS("", "") }()
	go func() { failed <- http.ListenAndServe(control, server.Control()) }()
	return <-failed
}

// hostCertificates signs a certificate for each host when it is first asked for.
type hostCertificates struct {
	authority authority
	known     sync.Map
}

func (h *hostCertificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	// An address is no server name: then it is loopback's.
	host := strings.ToLower(hello.ServerName)
	if known, ok := h.known.Load(host); ok {
		return known.(*tls.Certificate), nil
	}
	config := certConfig("registry", "", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth})
	config.AltNames = certutil.AltNames{IPs: []net.IP{net.IPv4(127, 0, 0, 1)}}
	if host != "" {
		config.AltNames = certutil.AltNames{DNSNames: []string{host}}
	}
	certificate, key, err := pkiutil.NewCertAndKey(h.authority.certificate, h.authority.key, config)
	if err != nil {
		return nil, fmt.Errorf("cannot make a certificate for %s: %w", host, err)
	}
	made := &tls.Certificate{Certificate: [][]byte{certificate.Raw}, PrivateKey: key}
	h.known.Store(host, made)
	return made, nil
}
