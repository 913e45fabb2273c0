package cmd

import (
	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/agent/internal/config"
	"github.com/sallyport/sallyport/agent/internal/logging"
)

const webhookHelp = `Answer the API of a Kubernetes cluster, over HTTPS at /review.

It refuses policies that the parser of the agents refuses, before they are stored, and names the field. Of
kubectl exec, attach and port-forward it tells the agents who called (kube.callsNamespace), and with
webhook.requirePolicy refuses them for pods that no policy selects. It needs no root, keeps no state, and runs
in the Deployment of the chart: see webhook in contrib/helm/sallyport/values.yaml, which also says what
happens while it is down.`

func (p Program) webhook() *cobra.Command {
	c := &cobra.Command{
		Use: "webhook", Short: "Answer a cluster's API about policies and calls into pods", Long: webhookHelp,
		Example: "  sallyport webhook --config /etc/sallyport/config.yaml", Args: noArgs,
	}
	config.AddFlags(c.Flags(), "log-level", "log-format")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := load(c)
		if err != nil {
			return err
		}
		log, err := logging.New(cfg.Log, p.Stderr)
		if err != nil {
			return err
		}
		return p.Webhook(c.Context(), cfg, log)
	}
	return c
}
