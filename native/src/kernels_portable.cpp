// Plain C++: runs everywhere, and is what every other instruction set must equal.
#include "kernels_of.h"

namespace octavo {
namespace {

struct PortableDot {
  static constexpr std::size_t kRows = 4;
  static constexpr std::size_t kRun = 1;
  static constexpr std::uint8_t kZero = 0;
  static void begin() {}
  static void end() {}
  static constexpr std::size_t steps(std::size_t) { return 1; }
  static std::uint64_t spin(std::uint64_t rounds) { return spin_sums<PortableDot>(rounds); }

  template <class Work>
  static void sums(const std::uint8_t* a, std::size_t stride, std::size_t rows, const std::int8_t* panel,
                   const std::int32_t* start, std::size_t groups, std::int32_t* out, Work meanwhile) {
    meanwhile();
    for (std::size_t r = 0; r < rows; ++r) {
      std::int32_t* sum = out + r * kPanel;
      std::memcpy(sum, start, kPanel * sizeof *sum);
      for (std::size_t group = 0; group < groups; ++group) {
        const std::int8_t* weights = panel + group * kPanel * 4;
        const std::uint8_t* levels = a + r * stride + group * 4;
        for (std::size_t n = 0; n < kPanel; ++n)
          for (std::size_t k = 0; k < 4; ++k) sum[n] += static_cast<std::int8_t>(levels[k]) * weights[n * 4 + k];
      }
    }
  }
};

}  // namespace

const Kernels kPortableKernels = kernels_of<PortableDot>("portable");

}  // namespace octavo
