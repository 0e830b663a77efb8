package main

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"net"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm"
	"k8s.io/kubernetes/cmd/kubeadm/app/util/pkiutil"
)

// authority signs the certificates of one cluster.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// writePKI makes what the parts need to trust each other, as kubeadm does: an
// authority, the API server's certificate, the key pair that signs
// ServiceAccount tokens, and a kubeconfig each for the admin, the controller
// manager, the scheduler and the Nodes. The registry has an authority of its
// own, whose key is kept: it signs a certificate for each host.
func writePKI(at layout) error {
	certificate, key, err := pkiutil.NewCertificateAuthority(certConfig("cluster-ca", "", nil))
	if err != nil {
		return fmt.Errorf("cannot make a certificate authority: %w", err)
	}
	ca := authority{certificate, key}
	directory := filepath.Dir(at.pki("ca.crt"))
	if err := pkiutil.WriteCert(directory, "ca", certificate); err != nil {
		return fmt.Errorf("cannot write the authority's certificate: %w", err)
	}

	serving := certConfig("kube-apiserver", "", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth})
	serving.AltNames = certutil.AltNames{
		DNSNames: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		IPs:      []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 0, 0, 1)},
	}
	certificate, key, err = pkiutil.NewCertAndKey(ca.certificate, ca.key, serving)
	if err != nil {
		return fmt.Errorf("cannot make the API server's certificate: %w", err)
	}
	if err := pkiutil.WriteCertAndKey(directory, "apiserver", certificate, key); err != nil {
		return fmt.Errorf("cannot write the API server's certificate: %w", err)
	}

	signer, err := pkiutil.GeneratePrivateKey(kubeadm.EncryptionAlgorithmECDSAP256)
	if err != nil {
		return fmt.Errorf("cannot make the key that signs ServiceAccount tokens: %w", err)
	}
	if err := pkiutil.WriteKey(directory, "sa", signer); err != nil {
		return fmt.Errorf("cannot write the key that signs ServiceAccount tokens: %w", err)
	}
	if err := pkiutil.WritePublicKey(directory, "sa", signer.Public()); err != nil {
		return fmt.Errorf("cannot write the key that checks ServiceAccount tokens: %w", err)
	}

	if err := ca.writeKubeconfig(at.kubeconfig(), at.server(), "cluster-admin", "system:masters"); err != nil {
		return err
	}
	if err := ca.writeKubeconfig(at.controllerKubeconfig(), at.server(), "system:kube-controller-manager", ""); err != nil {
		return err
	}
	if len(at.nodes) == 0 {
		return nil
	}
	if err := ca.writeKubeconfig(at.schedulerKubeconfig(), at.server(), "system:kube-scheduler", ""); err != nil {
		return err
	}
	for _, node := range at.nodes {
		if err := ca.writeKubeconfig(at.nodeKubeconfig(node), at.server(), "system:node:"+node, "system:nodes"); err != nil {
			return err
		}
	}
	certificate, key, err = pkiutil.NewCertificateAuthority(certConfig("registry-ca", "", nil))
	if err != nil {
		return fmt.Errorf("cannot make the registry's authority: %w", err)
	}
	if err := pkiutil.WriteCertAndKey(directory, registryAuthority, certificate, key); err != nil {
		return fmt.Errorf("cannot write the registry's authority: %w", err)
	}
	return nil
}

func (ca authority) writeKubeconfig(path, server, user, group string) error {
	certificate, key, err := pkiutil.NewCertAndKey(ca.certificate, ca.key,
		certConfig(user, group, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}))
	if err != nil {
		return fmt.Errorf("cannot make a certificate for %s: %w", user, err)
	}
	encodedKey, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return fmt.Errorf("cannot encode the key of %s: %w", user, err)
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["e2e"] = &clientcmdapi.Cluster{
		Server:                   server,
		CertificateAuthorityData: pkiutil.EncodeCertPEM(ca.certificate),
	}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{
		ClientCertificateData: pkiutil.EncodeCertPEM(certificate),
		ClientKeyData:         encodedKey,
	}
	config.Contexts["e2e"] = &clientcmdapi.Context{Cluster: "e2e", AuthInfo: user}
	config.CurrentContext = "e2e"
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("cannot write the kubeconfig of %s: %w", user, err)
	}
	return nil
}

func certConfig(name, group string, usages []x509.ExtKeyUsage) *pkiutil.CertConfig {
	config := &pkiutil.CertConfig{
		Config:              certutil.Config{CommonName: name, Usages: usages},
		EncryptionAlgorithm: kubeadm.EncryptionAlgorithmECDSAP256,
	}
	if group != "" {
		config.Organization = []string{group}
	}
	return config
}
