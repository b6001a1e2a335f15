# What somebody may run in an instance: a web application of their own, in Perl, which comes with git everywhere.
# It redirects, shows the headers that it gets, and echoes over a WebSocket. application.pl PORT
use strict; use warnings;
use IO::Socket::INET; use Digest::SHA qw(sha1); use MIME::Base64;
$SIG{CHLD} = 'IGNORE';
my $server = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $ARGV[0], Listen => 20, ReuseAddr => 1)
  or die "cannot listen: $!";
sub bytes { my ($c, $n) = @_; my $got = ''; while (length $got < $n) { read($c, $got, $n - length $got, length $got) or exit } $got }
while (my $c = $server->accept) {
  next if fork;
  my $first = <$c>; my ($path) = $first =~ m{^\S+ (\S+)};
  my %h; while (my $line = <$c>) { $line =~ s/\r?\n$//; last if $line eq ''; my ($n, $v) = split /: */, $line, 2; $h{lc $n} = $v }
  if ($path eq '/echo/') {
    my $accept = encode_base64(sha1($h{'sec-websocket-key'} . '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'), '');
    print $c "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: $accept\r\n\r\n";
    $c->flush;
    while (1) {
      my ($kind, $size) = unpack 'CC', bytes($c, 2);
      $size &= 127; $size = unpack 'n', bytes($c, 2) if $size == 126;
      my $mask = bytes($c, 4); my $text = $size ? bytes($c, $size) : '';
      $text ^= substr($mask x (1 + $size / 4), 0, $size);
      exit if ($kind & 15) == 8;
      my $answer = ($kind & 15) == 9 ? 0x8a : $kind;
      print $c $size < 126 ? pack('CC', $answer, $size) : pack('CCn', $answer, 126, $size), $text; $c->flush;
    }
  }
  my ($status, $more, $body) = ('200 OK', '', 'a local application');
  ($status, $more) = ('302 Found', "Location: /landing\r\n") if $path eq '/redirect';
  if ($path eq '/headers') { $body = join '', map { "$_: $h{$_}\n" } sort keys %h }
  printf $c "HTTP/1.1 %s\r\n%sContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", $status, $more, length $body, $body;
  exit;
}
