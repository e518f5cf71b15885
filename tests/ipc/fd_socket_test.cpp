// Packets with descriptors over Unix sockets, and connections that end.
#include "ipc/fd_socket.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <numeric>

#include "ipc/memory.h"
#include "tests/ipc/temp_dir.h"

namespace polykv {
namespace {

size_t open_descriptors() {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    count += !entry.path().empty();
  }
  return count;
}

struct Pair {
  FdSocket left, right;
};

Pair make_pair() {
  int ends[2] = {-1, -1};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  return {FdSocket(UniqueFd(ends[0])), FdSocket(UniqueFd(ends[1]))};
}

// Sends what FdSocket itself refuses to send.
void send_raw(int fd, size_t bytes, size_t n_fds) {
  std::string text(bytes, 'x');
  iovec part{text.data(), text.size()};
  std::vector<char> control(CMSG_SPACE(n_fds * sizeof(int)) + 64);
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (n_fds > 0) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
    const std::vector<int> fds(n_fds, STDERR_FILENO);
    std::memcpy(CMSG_DATA(header), fds.data(), n_fds * sizeof(int));
  }
  ASSERT_EQ(::sendmsg(fd, &message, MSG_NOSIGNAL), static_cast<ssize_t>(bytes));
}

TEST(FdSocket, packets_keep_their_borders_and_carry_memory) {
  Pair pair = make_pair();
  const std::string payload = "tokens";
  auto fd = share_bytes("t", std::as_bytes(std::span(payload)), memory_room());
  ASSERT_TRUE(pair.left.send("first", {fd->get()}));
  ASSERT_TRUE(pair.left.send("second"));
  auto first = pair.right.receive();
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(first->text, "first");
  ASSERT_EQ(first->fds.size(), 1u);
  EXPECT_NE(::fcntl(first->fds[0].get(), F_GETFD) & FD_CLOEXEC, 0);
  const auto view = SharedView::map(std::move(first->fds[0]));
  ASSERT_TRUE(view);
  EXPECT_EQ(std::memcmp(view->data().data(), payload.data(), payload.size()), 0);
  auto second = pair.right.receive();
  ASSERT_TRUE(second);
  EXPECT_EQ(second->text, "second");
  EXPECT_TRUE(second->fds.empty());
}

TEST(FdSocket, the_largest_packet_arrives_whole) {
  Pair pair = make_pair();
  const std::string text(kPacketBytesMax, 'y');
  ASSERT_TRUE(pair.left.send(text, std::vector<int>(kPacketFdsMax, STDERR_FILENO)));
  auto packet = pair.right.receive();
  ASSERT_TRUE(packet) << packet.error().message;
  EXPECT_EQ(packet->text, text);
  EXPECT_EQ(packet->fds.size(), kPacketFdsMax);
}

TEST(FdSocket, too_much_is_refused_by_the_sender_with_the_limit) {
  Pair pair = make_pair();
  const auto long_text = pair.left.send(std::string(kPacketBytesMax + 1, 'x'));
  ASSERT_FALSE(long_text);
  EXPECT_EQ(long_text.error().code, ErrorCode::bad_message);
  EXPECT_EQ(long_text.error().value, cat(kPacketBytesMax + 1));
  EXPECT_EQ(long_text.error().limit, cat(kPacketBytesMax));
  const auto many = pair.left.send("x", std::vector<int>(kPacketFdsMax + 1, STDERR_FILENO));
  ASSERT_FALSE(many);
  EXPECT_EQ(many.error().value, cat(kPacketFdsMax + 1));
  EXPECT_FALSE(pair.left.send(""));
}

TEST(FdSocket, too_much_from_a_stranger_is_refused_and_leaks_no_descriptor) {
  struct Case {
    size_t bytes, fds;
    ErrorCode expected;
  };
  const Case cases[] = {{kPacketBytesMax + 1, 0, ErrorCode::bad_message},
                        {kPacketBytesMax + 1, 3, ErrorCode::bad_message},
                        {1, kPacketFdsMax + 3, ErrorCode::bad_message},
                        {0, 3, ErrorCode::not_running}};
  for (const Case& one : cases) {
    Pair pair = make_pair();
    const size_t before = open_descriptors();
    send_raw(pair.left.fd(), one.bytes, one.fds);
    const auto packet = pair.right.receive();
    ASSERT_FALSE(packet) << one.bytes << " bytes, " << one.fds << " fds";
    EXPECT_EQ(packet.error().code, one.expected);
    EXPECT_EQ(open_descriptors(), before);
  }
}

TEST(FdSocket, a_closed_peer_is_an_end_for_the_receiver_and_an_error_for_the_sender) {
  Pair pair = make_pair();
  ASSERT_TRUE(pair.left.send("last words"));
  pair.left = FdSocket();
  EXPECT_EQ(pair.right.receive()->text, "last words");
  const auto end = pair.right.receive();
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().code, ErrorCode::not_running);
  const auto sent = pair.right.send("anyone?");  // no SIGPIPE: the test would die of it
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, ErrorCode::io);
}

TEST(FdSocket, a_peer_that_closes_with_unread_packets_is_an_end_too) {
  Pair pair = make_pair();
  ASSERT_TRUE(pair.right.send("never read"));
  pair.left = FdSocket();
  const auto end = pair.right.receive();
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().code, ErrorCode::not_running);
}

TEST(FdSocket, try_send_to_a_full_peer_says_so_and_loses_nothing) {
  Pair pair = make_pair();
  const std::string text(1000, 'x');
  size_t sent = 0;
  Status status;
  while ((status = pair.left.try_send(text)) && sent < 100'000) ++sent;
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::timed_out);
  ASSERT_GT(sent, 0u);
  for (size_t i = 0; i < sent; ++i) ASSERT_TRUE(pair.right.receive());
  EXPECT_TRUE(pair.left.try_send(text));
}

TEST(FdListener, accepts_and_tells_who_connected) {
  const TempDir directory;
  const std::string path = directory / "fd";
  auto listener = FdListener::bind(path);
  ASSERT_TRUE(listener) << listener.error().message;
  const pid_t child = ::fork();
  if (child == 0) {
    auto socket = FdSocket::connect(path);
    const bool said = socket && socket->send("hello");
    ::pause();  // holds the lease until it is killed
    ::_exit(said ? 0 : 1);
  }
  auto socket = listener->accept();
  ASSERT_TRUE(socket) << socket.error().message;
  EXPECT_EQ(socket->receive()->text, "hello");
  const auto peer = socket->peer();
  ASSERT_TRUE(peer);
  EXPECT_EQ(peer->pid, child);
  EXPECT_EQ(peer->uid, ::getuid());

  // A killed process lets go of its lease at once, and the kernel tells.
  ::kill(child, SIGKILL);
  const auto end = socket->receive();
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().code, ErrorCode::not_running);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
}

TEST(FdListener, replaces_a_dead_servers_socket_but_no_other_file) {
  const TempDir directory;
  const std::string path = directory / "fd";
  {
    const auto old = FdListener::bind(path);
  }
  ASSERT_TRUE(std::filesystem::exists(path));
  EXPECT_TRUE(FdListener::bind(path));
  std::filesystem::remove(path);
  std::ofstream(path) << "precious";
  const auto refused = FdListener::bind(path);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::io);
  EXPECT_EQ(std::filesystem::file_size(path), 8u);
}

TEST(FdSocket, connecting_to_nobody_is_not_running_with_the_path) {
  const TempDir directory;
  const std::string path = directory / "fd";
  for (int round = 0; round < 2; ++round) {
    const auto socket = FdSocket::connect(path);
    ASSERT_FALSE(socket);
    EXPECT_EQ(socket.error().code, ErrorCode::not_running);
    EXPECT_NE(socket.error().message.find(path), std::string::npos);
    {
      const auto listener = FdListener::bind(path);
    }  // leaves its file for the second round
  }
}

TEST(SocketPath, is_taken_up_to_the_kernels_limit_and_not_beyond) {
  const TempDir directory;
  const std::string longest = directory / std::string(107 - directory.path().size() - 1, 'n');
  ASSERT_EQ(longest.size(), 107u);
  auto listener = FdListener::bind(longest);
  ASSERT_TRUE(listener) << listener.error().message;
  EXPECT_TRUE(FdSocket::connect(longest));

  const auto bound = FdListener::bind(longest + "n");
  ASSERT_FALSE(bound);
  EXPECT_EQ(bound.error().code, ErrorCode::path_too_long);
  EXPECT_EQ(bound.error().value, "108");
  EXPECT_EQ(bound.error().limit, "107");
  EXPECT_EQ(FdSocket::connect(longest + "n").error().code, ErrorCode::path_too_long);
  EXPECT_FALSE(check_socket_path(""));
}

TEST(FdSocket, a_thousand_leases_leave_no_descriptor) {
  const TempDir directory;
  const std::string path = directory / "fd";
  auto listener = FdListener::bind(path);
  ASSERT_TRUE(listener);
  const std::string payload = "memory";
  auto memory = share_bytes("t", std::as_bytes(std::span(payload)), memory_room());
  const size_t before = open_descriptors();
  for (int i = 0; i < 1000; ++i) {
    auto client = FdSocket::connect(path);
    auto server = listener->accept();
    ASSERT_TRUE(client && server);
    ASSERT_TRUE(server->send("granted", {memory->get()}));
    auto packet = client->receive();
    ASSERT_TRUE(packet);
    ASSERT_TRUE(SharedView::map(std::move(packet->fds[0])));
  }
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace polykv
