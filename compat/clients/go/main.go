// Command groups is a member of a consumer group, with franz-go or sarama: it reads until it is killed, commits what it has
// read, and writes to a log what clients/driver.py says of a load: P (assignment), R (record), C (commit), E (error).
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
)

type journal struct {
	mu   sync.Mutex
	file *os.File
}

// line is one write, so that a kill cuts at most the last one short.
func (j *journal) line(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := fmt.Fprintf(j.file, format+"\n", args...); err != nil {
		log.Fatal(err)
	}
}

func (j *journal) assigned(partitions []int32) {
	sort.Slice(partitions, func(a, b int) bool { return partitions[a] < partitions[b] })
	words := make([]string, len(partitions))
	for i, p := range partitions {
		words[i] = fmt.Sprint(p)
	}
	j.line("P %s", strings.Join(words, ","))
}

func main() {
	if len(os.Args) != 6 {
		log.Fatal("usage: groups franz-go|sarama BOOTSTRAP GROUP TOPIC LOG")
	}
	bootstrap, group, topic := os.Args[2], os.Args[3], os.Args[4]
	file, err := os.OpenFile(os.Args[5], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		log.Fatal(err)
	}
	j := &journal{file: file}
	if os.Args[1] == "sarama" {
		runSarama(j, bootstrap, group, topic)
	} else {
		runFranz(j, bootstrap, group, topic)
	}
}

func runFranz(j *journal, bootstrap, group, topic string) {
	var mu sync.Mutex
	owned := map[int32]bool{}
	change := func(partitions []int32, owns bool) {
		mu.Lock()
		defer mu.Unlock()
		for _, p := range partitions {
			if owns {
				owned[p] = true
			} else {
				delete(owned, p)
			}
		}
		var now []int32
		for p := range owned {
			now = append(now, p)
		}
		j.assigned(now)
	}
	gone := func(_ context.Context, _ *kgo.Client, m map[string][]int32) { change(m[topic], false) }
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.DisableAutoCommit(),
		kgo.SessionTimeout(6*time.Second),
		kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { change(m[topic], true) }),
		kgo.OnPartitionsRevoked(gone),
		kgo.OnPartitionsLost(gone),
	)
	if err != nil {
		log.Fatal(err)
	}
	for {
		fetches := client.PollFetches(context.Background())
		fetches.EachError(func(_ string, _ int32, err error) { j.line("E poll %v", err) })
		last := map[int32]int64{}
		fetches.EachRecord(func(r *kgo.Record) {
			j.line("R %d %d %s", r.Partition, r.Offset, r.Value)
			last[r.Partition] = r.Offset + 1
		})
		if len(last) == 0 {
			continue
		}
		if err := client.CommitUncommittedOffsets(context.Background()); err != nil {
			j.line("E commit %v", err)
			continue
		}
		for p, offset := range last {
			j.line("C %d %d", p, offset)
		}
	}
}

type handler struct {
	j     *journal
	topic string
}

func (h handler) Setup(s sarama.ConsumerGroupSession) error {
	h.j.assigned(s.Claims()[h.topic])
	return nil
}

func (h handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (h handler) ConsumeClaim(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	for {
		select {
		case m, open := <-c.Messages():
			if !open {
				return nil
			}
			h.j.line("R %d %d %s", m.Partition, m.Offset, m.Value)
			s.MarkMessage(m, "")
			s.Commit()
		case <-s.Context().Done():
			return nil
		}
	}
}

func runSarama(j *journal, bootstrap, group, topic string) {
	config := sarama.NewConfig()
	config.Version = sarama.V4_0_0_0
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Session.Timeout = 6 * time.Second
	config.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	member, err := sarama.NewConsumerGroup([]string{bootstrap}, group, config)
	if err != nil {
		log.Fatal(err)
	}
	for {
		if err := member.Consume(context.Background(), []string{topic}, handler{j, topic}); err != nil {
			j.line("E poll %v", err)
			time.Sleep(100 * time.Millisecond)
		}
	}
}
