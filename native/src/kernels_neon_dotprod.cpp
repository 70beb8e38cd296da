// NEON with dot products: 16 products of signed bytes in one instruction, exact.
#include <arm_neon.h>

#include "kernels_of.h"

namespace octavo {
namespace {

struct NeonDotprodDot {
  static constexpr std::size_t kRows = 4;  // 16 sums of 16 outputs, 4 weights, 4 rows
  static constexpr std::size_t kColumns = 16;
  static constexpr std::size_t kRowsTogether = 1;
  static constexpr std::size_t kRun = 1;
  static constexpr std::uint8_t kZero = 0;
  static void begin() {}
  static void end() {}
  static constexpr std::size_t steps(std::size_t) { return 1; }
  static std::uint64_t spin(std::uint64_t rounds) { return spin_sums<NeonDotprodDot>(rounds); }

  // `columns` are 16 outputs of the panel: four vectors of four.
  template <int kCount>
  [[gnu::noinline]] static void block(const std::uint8_t* a, std::size_t stride, const std::int8_t* columns,
                                      const std::int32_t* start, std::size_t groups, std::int32_t* out) {
    int32x4_t sums[kCount][4];
#pragma GCC unroll 4
    for (int r = 0; r < kCount; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) sums[r][v] = vld1q_s32(start + 4 * v);
#pragma GCC unroll 1
    for (std::size_t group = 0; group < groups; group += 4) {  // inputs are padded to 16 groups
      int8x16_t levels[kCount];                                // four groups of each row
#pragma GCC unroll 4
      for (int r = 0; r < kCount; ++r) levels[r] = vreinterpretq_s8_u8(vld1q_u8(a + r * stride + group * 4));
      add_group<0>(sums, levels, columns);
      add_group<1>(sums, levels, columns + kPanel * 4);
      add_group<2>(sums, levels, columns + kPanel * 8);
      add_group<3>(sums, levels, columns + kPanel * 12);
      columns += kPanel * 16;
    }
#pragma GCC unroll 4
    for (int r = 0; r < kCount; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) vst1q_s32(out + r * kPanel + 4 * v, sums[r][v]);
  }

  template <int kGroup, int kCount>
  static inline void add_group(int32x4_t (&sums)[kCount][4], const int8x16_t (&levels)[kCount],
                               const std::int8_t* weights) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const int8x16_t four = vld1q_s8(weights + 16 * v);
#pragma GCC unroll 4
      for (int r = 0; r < kCount; ++r) sums[r][v] = vdotq_laneq_s32(sums[r][v], four, levels[r], kGroup);
    }
  }

  template <class Work>
  static void sums(const std::uint8_t* a, std::size_t stride, std::size_t rows, const std::int8_t* panel,
                   const std::int32_t* start, std::size_t groups, std::int32_t* out, Work meanwhile) {
    sums_in_blocks<NeonDotprodDot>(a, stride, rows, panel, start, groups, out, meanwhile);
  }
};

}  // namespace

const Kernels kNeonDotprodKernels = kernels_of<NeonDotprodDot>("neon_dotprod");

}  // namespace octavo
