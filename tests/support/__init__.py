"""What the tests stand on: servers to start and kill, proxies that lose replies, things to compare with."""
