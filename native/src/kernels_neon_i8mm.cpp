// NEON with 8-bit matrix products: 2 rows by 8 levels times 8 by 2 outputs in one instruction, exact.
#include <arm_neon.h>

#include "kernels_of.h"

namespace octavo {
namespace {

// vmmlaq_s32 takes 8 inputs of 2 rows and of 2 outputs. Weights lie as [group][output][4], so two neighbouring groups
// are zipped into [output][8]; rows are read as they are, 8 levels at a time, two rows to a vector.
struct NeonI8mmDot {
  static constexpr std::size_t kRows = 8;
  static constexpr std::size_t kColumns = 8;
  static constexpr std::size_t kRowsTogether = 2;  // what is behind the last row is there, and nobody looks at it
  static constexpr std::size_t kRun = 1;
  static constexpr std::uint8_t kZero = 0;
  static void begin() {}
  static void end() {}
  static constexpr std::size_t steps(std::size_t) { return 1; }
  static std::uint64_t spin(std::uint64_t rounds) { return spin_sums<NeonI8mmDot>(rounds); }

  // `columns` are 8 outputs of the panel: four vectors of 2 rows by 2 outputs for each pair of rows.
  template <int kCount>
  [[gnu::noinline]] static void block(const std::uint8_t* a, std::size_t stride, const std::int8_t* columns,
                                      const std::int32_t* start, std::size_t groups, std::int32_t* out) {
    int32x4_t sums[kCount][4];
#pragma GCC unroll 4
    for (int r = 0; r < kCount; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        const int32x2_t two = vld1_s32(start + 2 * v);
        sums[r][v] = vcombine_s32(two, two);
      }
#pragma GCC unroll 1
    for (std::size_t group = 0; group < groups; group += 2) {
      int8x16_t weights[4];  // [2 outputs][8 inputs]
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const int32x4_t first = vreinterpretq_s32_s8(vld1q_s8(columns + 16 * half));
        const int32x4_t second = vreinterpretq_s32_s8(vld1q_s8(columns + kPanel * 4 + 16 * half));
        weights[2 * half] = vreinterpretq_s8_s32(vzip1q_s32(first, second));
        weights[2 * half + 1] = vreinterpretq_s8_s32(vzip2q_s32(first, second));
      }
      columns += kPanel * 8;
#pragma GCC unroll 4
      for (int r = 0; r < kCount; ++r) {
        const std::uint8_t* row = a + 2 * r * stride + group * 4;
        const int8x16_t levels = vreinterpretq_s8_u8(vcombine_u8(vld1_u8(row), vld1_u8(row + stride)));
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) sums[r][v] = vmmlaq_s32(sums[r][v], levels, weights[v]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kCount; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        vst1_s32(out + 2 * r * kPanel + 2 * v, vget_low_s32(sums[r][v]));
        vst1_s32(out + (2 * r + 1) * kPanel + 2 * v, vget_high_s32(sums[r][v]));
      }
  }

  template <class Work>
  static void sums(const std::uint8_t* a, std::size_t stride, std::size_t rows, const std::int8_t* panel,
                   const std::int32_t* start, std::size_t groups, std::int32_t* out, Work meanwhile) {
    sums_in_blocks<NeonI8mmDot>(a, stride, rows, panel, start, groups, out, meanwhile);
  }
};

}  // namespace

const Kernels kNeonI8mmKernels = kernels_of<NeonI8mmDot>("neon_i8mm");

}  // namespace octavo
