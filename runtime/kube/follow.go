package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/go-logr/logr/funcr"
	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// Limits on how often the API is asked, for what is no watch.
const (
	requestsPerSecond = 20
	requestBurst      = 40
)

// pageSize is how many objects one page of a list has, where the API cannot stream it.
const pageSize = 500

// client speaks to the API: in protobuf about Kubernetes' own resources, in JSON about others'.
type client struct {
	http            *http.Client
	core, discovery rest.Interface
	dynamic         dynamic.Interface
}

// close ends the connections that nobody uses.
func (c *client) close() { c.http.CloseIdleConnections() }

// InCluster says whether this is a process in a pod of a cluster.
func InCluster() bool {
	_, err := rest.InClusterConfig()
	return !errors.Is(err, rest.ErrNotInCluster)
}

// restConfig finds the API and who we are to it.
func restConfig(cfg Config) (*rest.Config, error) {
	config, err := rest.InClusterConfig()
	if cfg.Kubeconfig != "" {
		config, err = clientcmd.BuildConfigFromFlags("", cfg.Kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("configuring the client of the cluster: %w", err)
	}
	config.UserAgent = cfg.UserAgent
	config.WarningHandlerWithContext = rest.NoWarnings{}
	config.QPS, config.Burst = requestsPerSecond, requestBurst
	wait := cmp.Or(cfg.AnswerTimeout, defaultAnswerTimeout)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return patience{next, wait} })
	return config, nil
}

func newClient(config *rest.Config) (*client, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), discoveryv1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("describing the resources of the cluster: %w", err)
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	http, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("making the client of the cluster: %w", err)
	}
	codecs := serializer.NewCodecFactory(scheme).WithoutConversion()
	of := func(path string, version schema.GroupVersion) (rest.Interface, error) {
		c := rest.CopyConfig(config)
		c.APIPath, c.GroupVersion, c.NegotiatedSerializer = path, &version, codecs
		c.ContentType, c.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
		return rest.RESTClientForConfigAndClient(c, http)
	}
	core, err := of("/api", corev1.SchemeGroupVersion)
	if err != nil {
		return nil, fmt.Errorf("making the client of the cluster: %w", err)
	}
	discovery, err := of("/apis", discoveryv1.SchemeGroupVersion)
	if err != nil {
		return nil, fmt.Errorf("making the client of the cluster: %w", err)
	}
	other, err := dynamic.NewForConfigAndClient(config, http)
	if err != nil {
		return nil, fmt.Errorf("making the client of the cluster: %w", err)
	}
	return &client{http, core, discovery, other}, nil
}

// resource lists and watches one resource.
type resource struct {
	name  string
	list  func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// typed is a resource of Kubernetes' own, in all namespaces.
func typed(c rest.Interface, name string) resource {
	request := func(opts *metav1.ListOptions) *rest.Request {
		return c.Get().Resource(name).VersionedParams(opts, metav1.ParameterCodec)
	}
	return resource{
		name: name,
		list: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			return request(&opts).Do(ctx).Get()
		},
		watch: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			opts.Watch = true
			return request(&opts).Watch(ctx)
		},
	}
}

// follow keeps a table equal to a resource until ctx ends. After an interruption the watch goes on where it was; only
// when the API has forgotten that place everything is listed again, as a stream from its cache where it can do that.
// Attempts are 0.8 to 60 seconds apart, each by chance, so that a cluster's agents do not all come at once.
func follow[V any](ctx context.Context, h *health, r resource, example runtime.Object, t *table[V]) {
	reflector := cache.NewReflectorWithOptions(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			// Said without it, a page of a version means just that version, and who has it cannot go on from there.
			if opts.ResourceVersion != "" {
				opts.ResourceVersionMatch = metav1.ResourceVersionMatchNotOlderThan
			}
			list, err := r.list(ctx, opts)
			h.saw(ctx, r.name, err)
			if err != nil {
				return nil, err
			}
			return trimList(list, t)
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			w, err := r.watch(ctx, opts)
			if err != nil {
				h.saw(ctx, r.name, err)
				return nil, err
			}
			return h.hear(ctx, r.name, w), nil
		},
	}, example, t, cache.ReflectorOptions{Name: r.name})
	reflector.WatchListPageSize = pageSize
	reflector.RunWithContext(ctx)
}

// trimList trims a page of a list.
func trimList[V any](list runtime.Object, t *table[V]) (runtime.Object, error) {
	from, err := meta.ListAccessor(list)
	if err != nil {
		return nil, fmt.Errorf("reading a list: %w", err)
	}
	out := &internalversion.List{ListMeta: metav1.ListMeta{
		ResourceVersion: from.GetResourceVersion(), Continue: from.GetContinue(), RemainingItemCount: from.GetRemainingItemCount(),
	}}
	err = meta.EachListItem(list, func(obj runtime.Object) error {
		it, err := t.item(obj)
		if err != nil {
			return err
		}
		out.Items = append(out.Items, it)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading a list: %w", err)
	}
	return out, nil
}

// quiet returns a context in which client-go logs every attempt at level debug: what an operator must know of them is
// told by health.
func quiet(ctx context.Context, log logrus.FieldLogger) context.Context {
	return klog.NewContext(ctx, funcr.New(func(prefix, args string) {
		log.WithFields(logrus.Fields{"part": prefix, "text": args}).Debug("client-go")
	}, funcr.Options{Verbosity: 4}))
}
