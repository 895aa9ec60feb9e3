// A metrics-server for the lab, of the packages of Kubernetes' own: what `kubectl top` asks.
//
// Its own program does not compile with this Kubernetes' libraries in the version that needs no
// other libraries than the kubelet does; a version that does would change what the kubelet is
// built of. What it does not do here: it asks nobody who its clients are and what they may.
package main

import (
	"flag"
	"log"
	"net"
	"time"

	corev1 "k8s.io/api/core/v1"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/util/compatibility"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/util"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/metrics-server/pkg/api"
	generatedopenapi "sigs.k8s.io/metrics-server/pkg/api/generated/openapi"
	"sigs.k8s.io/metrics-server/pkg/scraper/client"
	"sigs.k8s.io/metrics-server/pkg/server"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	port := flag.Int("port", 4443, "port to serve on")
	resolution := flag.Duration("resolution", 10*time.Second, "how often kubelets are asked")
	flag.Parse()
	if err := run(*kubeconfig, *port, *resolution); err != nil {
		log.Fatal(err)
	}
}

func run(kubeconfig string, port int, resolution time.Duration) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	serving, err := serverConfig(port)
	if err != nil {
		return err
	}
	kubelet := rest.CopyConfig(config)
	kubelet.TLSClientConfig = rest.TLSClientConfig{Insecure: true}
	metrics := server.Config{
		Apiserver: serving,
		Rest:      config,
		Kubelet: &client.KubeletClientConfig{
			Client:              *kubelet,
			AddressTypePriority: []corev1.NodeAddressType{corev1.NodeInternalIP},
			Scheme:              "https",
			DefaultPort:         10250,
		},
		MetricResolution: resolution,
		ScrapeTimeout:    resolution * 9 / 10,
	}
	served, err := metrics.Complete()
	if err != nil {
		return err
	}
	return served.RunUntil(genericapiserver.SetupSignalHandler())
}

// serverConfig listens on a port with a certificate of its own.
func serverConfig(port int) (*genericapiserver.Config, error) {
	secure := options.NewSecureServingOptions().WithLoopback()
	secure.BindPort = port
	secure.ServerCert.CertDirectory = "" // in memory
	if err := secure.MaybeDefaultWithSelfSignedCerts("localhost", nil, []net.IP{net.IPv4(127, 0, 0, 1)}); err != nil {
		return nil, err
	}
	config := genericapiserver.NewConfig(api.Codecs)
	config.EffectiveVersion = compatibility.DefaultBuildEffectiveVersion()
	if err := secure.ApplyTo(&config.SecureServing, &config.LoopbackClientConfig); err != nil {
		return nil, err
	}
	namer := openapinamer.NewDefinitionNamer(api.Scheme)
	config.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(definitions, namer)
	config.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(definitions, namer)
	return config, nil
}

// definitions are those of the API's types, by the names that they have in this Kubernetes: they
// were generated when packages' paths were their names.
func definitions(reference common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	renamed := func(path string) spec.Ref { return reference(util.ToRESTFriendlyName(path)) }
	defined := map[string]common.OpenAPIDefinition{}
	for path, definition := range generatedopenapi.GetOpenAPIDefinitions(renamed) {
		for i, needed := range definition.Dependencies {
			definition.Dependencies[i] = util.ToRESTFriendlyName(needed)
		}
		defined[util.ToRESTFriendlyName(path)] = definition
	}
	return defined
}
