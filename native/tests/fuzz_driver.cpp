// Stands in for libFuzzer where the compiler has none: random bytes from a seed, as many as the argument says.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int main(int count, char** arguments) {
  const long runs = count > 1 ? std::atol(arguments[1]) : 5000;
  const unsigned seed = count > 2 ? static_cast<unsigned>(std::atol(arguments[2])) : 0;
  std::mt19937 random(seed);
  for (long run = 0; run < runs; ++run) {
    std::vector<std::uint8_t> bytes(random() % 600);
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("fuzzing: %ld runs, fine\n", runs);
}
