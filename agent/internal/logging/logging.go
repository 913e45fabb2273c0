// Package logging builds the agent's one logger and owns the names of its fields.
//
// It imports config and no other package of this module. Alerts are not log lines: they go through
// the alert package.
package logging

import (
	"fmt"
	"io"
	"os"

	"github.com/sirupsen/logrus"
	"golang.org/x/term"

	"github.com/sallyport/sallyport/agent/internal/config"
)

// The names of fields. An error is logged by WithError, under logrus.ErrorKey.
const (
	FieldComponent = "component" // which part of the agent speaks; every part sets its own
	FieldContainer = "container" // runtime's id
	FieldFile      = "file"
	FieldHook      = "hook"
	FieldInterface = "interface"
	FieldLost      = "lost" // how many
	FieldPID       = "pid"
	FieldPolicy    = "policy" // namespace/name
	FieldProgram   = "program"
	FieldRevision  = "revision"
	FieldSink      = "sink"
	FieldSite      = "site" // ring buffer or map
	FieldSocket    = "socket"
	FieldStep      = "step" // of the enforcement ladder
	FieldWorkload  = "workload"
)

// New builds the logger that writes to out. Both formats escape what fields hold, so that a
// hostile name can forge no line. It fails on a level or format that config does not know.
func New(cfg config.Log, out io.Writer) (*logrus.Logger, error) {
	level, err := logrus.ParseLevel(string(cfg.Level))
	if err != nil {
		return nil, fmt.Errorf("reading log.level: %w", err)
	}
	formatter, err := formatter(cfg.Format, out)
	if err != nil {
		return nil, err
	}
	log := logrus.New()
	log.SetOutput(out)
	log.SetLevel(level)
	log.SetFormatter(formatter)
	return log, nil
}

func formatter(format config.Format, out io.Writer) (logrus.Formatter, error) {
	switch format {
	case config.FormatAuto:
		if isTerminal(out) {
			return text(true), nil
		}
		return jsonLines(), nil
	case config.FormatText:
		return text(isTerminal(out)), nil
	case config.FormatJSON:
		return jsonLines(), nil
	}
	return nil, fmt.Errorf("reading log.format: %q is none of auto, text, json", format)
}

const timeFormat = "2006-01-02T15:04:05.000Z07:00"

func text(colors bool) logrus.Formatter {
	return &logrus.TextFormatter{
		FullTimestamp: true, TimestampFormat: timeFormat, ForceQuote: true,
		ForceColors: colors && os.Getenv("NO_COLOR") == "", DisableColors: !colors || os.Getenv("NO_COLOR") != "",
	}
}

func jsonLines() logrus.Formatter {
	return &logrus.JSONFormatter{
		TimestampFormat: timeFormat, DisableHTMLEscape: true,
		FieldMap: logrus.FieldMap{logrus.FieldKeyMsg: "message"},
	}
}

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
