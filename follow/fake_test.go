package follow

import (
	"context"
	"net"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// fake answers as a member would that lies, is ill, or changes while it is asked: what no etcd can be brought to do.
type fake struct {
	pb.UnimplementedClusterServer
	pb.UnimplementedMaintenanceServer
	url string

	mu     sync.Mutex
	status pb.StatusResponse
	// lists are told one after the other, the last one for ever.
	lists []*pb.MemberListResponse
	told  int
}

const fakeCluster = 0xc1

// startFake starts a member with that ID of the cluster 0xc1 on a port of its own.
func startFake(t *testing.T, id uint64) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{url: "http://" + l.Addr().String()}
	f.status.Header = &pb.ResponseHeader{ClusterId: fakeCluster, MemberId: id}
	f.status.Version, f.status.Leader = "3.5.9", 1
	s := grpc.NewServer()
	pb.RegisterClusterServer(s, f)
	pb.RegisterMaintenanceServer(s, f)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return f
}

// tell has it tell a list of the cluster at a raft index.
func (f *fake) tell(index uint64, members ...*pb.Member) {
	f.edit(func() {
		f.status.RaftAppliedIndex = index
		f.lists = []*pb.MemberListResponse{{Header: f.status.Header, Members: members}}
	})
}

func (f *fake) edit(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *fake) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return proto.Clone(&f.status).(*pb.StatusResponse), nil // it may be changed while this one is sent
}

func (f *fake) MemberList(context.Context, *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.lists[0]
	if f.told++; len(f.lists) > 1 {
		f.lists = f.lists[1:]
	}
	return out, nil
}

// tellings is how often it told a list.
func (f *fake) tellings() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.told
}

// member is one of a list, with the client URL given.
func member(id uint64, name, url string) *pb.Member {
	return &pb.Member{ID: id, Name: name, PeerURLs: []string{"http://192.0.2.1:2380"}, ClientURLs: []string{url}}
}
