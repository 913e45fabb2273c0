package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/sallyport/sallyport/agent/internal/api/v1"

	"github.com/sallyport/sallyport/agent/internal/alert"
	"github.com/sallyport/sallyport/agent/internal/api"
	"github.com/sallyport/sallyport/agent/internal/config"
	"github.com/sallyport/sallyport/probes/event"
)

const observeHelp = `Print what the agent saw: connections, denials, programs, sessions.

Without -f it prints what the agent still keeps (its newest alerts, and apart from them its newest
traffic) and ends; with -f it goes on with what comes. In a pipe each event is one line of JSON, with the
same names as in alerts.jsonl and in syslog.

Filters are joined by AND; one that is given more than once, or with commas, is met by any of its values.
A reader that is too slow loses events, never the agent; it is told how many.`

func (p Program) observe() *cobra.Command {
	c := &cobra.Command{
		Use:   "observe",
		Short: "Print what the agent saw and sees",
		Long:  observeHelp,
		Example: `  sallyport observe -f
  sallyport observe -f --verdict Deny,Audit --namespace shop
  sallyport observe --since 10m --origin Exec --kind exec,connect
  sallyport observe --binary '/bin/*' --peer 10.0.0.0/8
  sallyport observe -f | jq -r 'select(.verdict == "Deny") | .message'`,
		Args: noArgs,
	}
	var req apiv1.ObserveRequest
	flags := c.Flags()
	flags.BoolVarP(&req.Follow, "follow", "f", false, "go on with new events")
	since := flags.String("since", "", "start at this time (RFC 3339) or this long ago (10m, 2h); default: what is kept, with -f now")
	for _, f := range []struct {
		to          *[]string
		name, usage string
	}{
		{&req.Namespaces, "namespace", "namespaces"},
		{&req.Pods, "pod", "pods"},
		{&req.Containers, "container", "names of containers"},
		{&req.Origins, "origin", "origins: Main, Exec, Probe, Host, Unknown"},
		{&req.Binaries, "binary", "globs for the path of the program or script"},
		{&req.Verdicts, "verdict", "verdicts: Allow, Audit, Deny, Drop, Reset, Kill"},
		{&req.Peers, "peer", "addresses or CIDRs of the other end"},
		{&req.Kinds, "kind", "kinds: " + strings.Join(alert.KindNames(), ", ")},
	} {
		flags.StringSliceVar(f.to, f.name, nil, "only these "+f.usage)
	}
	output := addOutput(c)
	config.AddFlags(flags, "socket")
	c.RunE = func(c *cobra.Command, _ []string) error {
		start, err := startOf(*since, req.GetFollow(), time.Now())
		if err != nil {
			return err
		}
		if !start.IsZero() {
			req.Since = timestamppb.New(start)
		}
		client, err := dial(c)
		if err != nil {
			return err
		}
		defer func() { _ = client.Close() }() // ends the stream
		stream, err := client.Observe(c.Context(), &req)
		if err != nil {
			return fmt.Errorf("asking the agent: %w", err)
		}
		show := columnsPrinter(p.Stdout)
		if output.json(p.Stdout) {
			show = jsonPrinter(p.Stdout)
		}
		return follow(c.Context(), stream, show)
	}
	return c
}

// startOf reads --since. The zero time is everything that is kept.
func startOf(since string, follow bool, now time.Time) (time.Time, error) {
	if since == "" {
		if follow {
			return now, nil
		}
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(since); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, since)
	if err != nil {
		return time.Time{}, usageError{fmt.Errorf("reading --since: %q is neither a duration such as 10m nor a time such as 2026-01-02T15:04:05Z", since)}
	}
	return at, nil
}

// follow prints a stream until it ends or ctx is done, which is how people end it.
func follow(ctx context.Context, stream grpc.ServerStreamingClient[apiv1.ObserveResponse], show func(*alert.Record) error) error {
	for {
		got, err := stream.Recv()
		if errors.Is(err, io.EOF) || ctx.Err() != nil {
			return nil //nolint:nilerr // this is how a stream ends
		}
		switch {
		case status.Code(err) == codes.InvalidArgument:
			return usageError{errors.New(status.Convert(err).Message())}
		case status.Code(err) == codes.Unavailable:
			return fmt.Errorf("the agent ended: %w", api.ErrNotRunning)
		case err != nil:
			return fmt.Errorf("reading events: %w", err)
		}
		r := &alert.Record{Event: event.Event{
			Time: time.Now(), Kind: event.KindLost, Lost: got.GetLost(), Site: "observe",
		}}
		if got.GetEvent() != nil {
			r = api.ToRecord(got.GetEvent())
		}
		if err := show(r); err != nil {
			return fmt.Errorf("writing events: %w", err)
		}
	}
}

// jsonPrinter prints a record as every other output of the agent does.
func jsonPrinter(out io.Writer) func(*alert.Record) error {
	fields := alert.NewFields()
	var line []byte
	return func(r *alert.Record) error {
		line = append(fields.AppendJSON(line[:0], r), '\n')
		_, err := out.Write(line)
		return err
	}
}

// columnsPrinter prints a record as columns that fit what is usual; what is longer moves the rest
// of its line.
func columnsPrinter(out io.Writer) func(*alert.Record) error {
	return func(r *alert.Record) error {
		what := alert.VerdictName(r.Event.Verdict)
		if what == "" {
			what = alert.KindName(r.Event.Kind)
		}
		_, err := fmt.Fprintln(out,
			r.Event.Time.Local().Format("15:04:05.000"), pad(what, 13), pad(r.Workload, 32), r.Message())
		return err
	}
}
