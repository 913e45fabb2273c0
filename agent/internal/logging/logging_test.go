package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/agent/internal/config"
)

const hostile = "a\nlevel=error msg=\"forged\"\x1b[2J"

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	log, err := New(config.Log{Level: config.LevelInfo, Format: config.FormatAuto}, &out)
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("not told")
	log.WithField(FieldWorkload, hostile).WithError(errors.New("boom")).Warn("telling")
	var line map[string]string
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("not one JSON object: %v in %q", err, out.String())
	}
	if line["message"] != "telling" || line["workload"] != hostile || line["error"] != "boom" || line["level"] != "warning" || line["time"] == "" {
		t.Errorf("got %v", line)
	}
}

func TestTextIsOneLine(t *testing.T) {
	var out bytes.Buffer
	log, err := New(config.Log{Level: config.LevelDebug, Format: config.FormatText}, &out)
	if err != nil {
		t.Fatal(err)
	}
	log.WithField(FieldWorkload, hostile).Debug("telling")
	got := out.String()
	if strings.Count(got, "\n") != 1 || strings.Contains(got, "\x1b") || !strings.Contains(got, `workload="a\nlevel`) {
		t.Errorf("got %q", got)
	}
	out.Reset()
	log.SetFormatter(text(true))
	log.WithField(FieldWorkload, hostile).Info("telling")
	if got := out.String(); strings.Count(got, "\n") != 1 || strings.Contains(got, "\x1b[2J") {
		t.Errorf("in colour: %q", got)
	}
}

func TestUnknownSettings(t *testing.T) {
	if _, err := New(config.Log{Level: "loud", Format: config.FormatJSON}, nil); err == nil {
		t.Error("an unknown level is taken")
	}
	if _, err := New(config.Log{Level: config.LevelInfo, Format: "xml"}, nil); err == nil {
		t.Error("an unknown format is taken")
	}
}
