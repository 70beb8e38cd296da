// Quantized linear layers: panels of weights times blocks of rows, and what is done with the sums while they are hot.
//
// A file that includes this has defined `Dot` before: the integer sums of one instruction set.
//   kRows    rows of a block
//   kRun     groups of four inputs that lie together for 16 outputs, see kernels.h
//   kZero    how level 0 is stored
//   begin()  called before a run of sums, and end() after it
//   sums(a, stride, rows, panel, start, groups, out, meanwhile)
//            out[r][n] = start[n] + the sum over inputs k of a[r][k] * weight[k][n], exact in int32,
//            for the rows r of a block and the 32 outputs n of a panel, (rows, 32);
//            calls meanwhile() in steps(groups) places, for other work to go on beside the products
//   spin(rounds)
//            as many products as the processor can do, out of registers where that is possible
#pragma once

#include <utility>

#include "elementary.h"
#include "kernels.h"
#include "rows.h"

namespace octavo {
namespace {

using BlockOfSums = void (*)(const std::uint8_t* a, std::size_t stride, const std::int8_t* columns,
                             const std::int32_t* start, std::size_t groups, std::int32_t* out);

template <class Dot, std::size_t... kBefore>
inline BlockOfSums block_of(std::size_t count, std::index_sequence<kBefore...>) {
  static constexpr BlockOfSums kBlocks[] = {Dot::template block<kBefore + 1>...};
  return kBlocks[count - 1];
}

// `sums` by Dot::block<count>, which has kColumns outputs of a panel and `count` times kRowsTogether rows: a number that
// is known when it is compiled, so that its sums stay in registers.
template <class Dot, class Work>
inline void sums_in_blocks(const std::uint8_t* a, std::size_t stride, std::size_t rows, const std::int8_t* panel,
                           const std::int32_t* start, std::size_t groups, std::int32_t* out, Work meanwhile) {
  constexpr std::size_t kMost = Dot::kRows / Dot::kRowsTogether;
  const std::size_t count = (rows + Dot::kRowsTogether - 1) / Dot::kRowsTogether;
  const BlockOfSums block = block_of<Dot>(count, std::make_index_sequence<kMost>());
  meanwhile();
  for (std::size_t column = 0; column < kPanel; column += Dot::kColumns)
    block(a, stride, panel + column * 4, start + column, groups, out + column);
}

// The products of `sums` itself, on a block that stays in the nearest cache: for a `Dot` without a loop of its own.
template <class Dot>
std::uint64_t spin_sums(std::uint64_t rounds) {
  constexpr std::size_t kInputs = 256;
  alignas(64) static const std::uint8_t levels[kSpareRows * kInputs] = {};
  alignas(64) static const std::int8_t weights[kPanel * kInputs] = {};
  alignas(64) static const std::int32_t start[kPanel] = {};
  alignas(64) std::int32_t sums[Dot::kRows * kPanel];
  for (std::uint64_t round = 0; round < rounds; ++round) {
    Dot::sums(levels, kInputs, Dot::kRows, weights, start, kInputs / 4, sums, [] {});
    __asm__ volatile("" : : "r"(sums) : "memory");  // somebody might look at them
  }
  return rounds * Dot::kRows * kPanel * kInputs;
}

// A block whose sums are known: its rows that are still to be finished.
struct Unfinished {
  std::size_t row = 0;
  std::size_t count = 0;
  std::size_t column = 0;
  const std::int32_t* sums = nullptr;
};

// Calls finish(first row, rows, first column, sums) until all rows of all blocks have had their turn.
// Panels are the outer loop: a panel stays in the nearest cache while all rows pass. A block is finished while the next
// one is multiplied, a few rows at each step: AMX multiplies beside the vectors.
template <class Dot, class Finish>
inline void for_blocks(const Linear& linear, const LevelRows& in, Range rows, Range panels, Finish finish) {
  alignas(64) std::int32_t sums[2][Dot::kRows * kPanel];
  const std::size_t blocks = (rows.size() + Dot::kRows - 1) / Dot::kRows;
  const std::size_t panel_bytes = linear.groups * kPanel * 4;
  const std::size_t steps = Dot::steps(linear.groups), share = (Dot::kRows + steps - 1) / steps;
  Unfinished before;
  const auto finish_some = [&](std::size_t most) {
    const std::size_t count = before.count < most ? before.count : most;
    if (count == 0) return;
    finish(before.row, count, before.column, before.sums);
    before = {before.row + count, before.count - count, before.column, before.sums + count * kPanel};
  };
  Dot::begin();
  for (std::size_t panel = panels.begin, turn = 0; panel < panels.end; ++panel) {
    const std::size_t column = panel * kPanel;
    for (std::size_t block = 0; block < blocks; ++block, turn ^= 1) {  // of nearly equal size: short blocks are slow
      const std::size_t row = rows.begin + rows.size() * block / blocks;
      const std::size_t count = rows.begin + rows.size() * (block + 1) / blocks - row;
      Dot::sums(in.row(row), in.stride, count, linear.weights + panel * panel_bytes, linear.start.data() + column,
                linear.groups, sums[turn], [&] { finish_some(share); });
      before = {row, count, column, sums[turn]};
    }
  }
  finish_some(Dot::kRows);
  Dot::end();
}

// Calls use(row, column, values) for the dequantized values of a block's rows, a vector at a time.
// Here and below, what loops look up is captured by value: behind a reference it would be read again after every store.
template <class Use>
inline void for_values(const Linear& linear, const LevelRows& in, std::size_t row, std::size_t count,
                       std::size_t column, const std::int32_t* sums, Use use) {
  constexpr std::size_t kVectors = kPanel / kLanes;
  Floats scale[kVectors], bias[kVectors];
#pragma GCC unroll 8
  for (std::size_t v = 0; v < kVectors; ++v) {
    scale[v] = load(linear.scale.data() + column + v * kLanes);
    bias[v] = load(linear.bias.data() + column + v * kLanes);
  }
  const auto for_rows = [=](auto worth) {
    for (std::size_t r = 0; r < count; ++r) {
#pragma GCC unroll 8
      for (std::size_t v = 0; v < kVectors; ++v) {
        const Floats sum = floats_from_ints(load(sums + r * kPanel + v * kLanes));
        use(row + r, column + v * kLanes, sum * worth(scale[v], row + r) + bias[v]);
      }
    }
  };
  if (in.scales == nullptr) for_rows([](Floats whole, std::size_t) { return whole; });
  else for_rows([scales = in.scales](Floats whole, std::size_t r) { return whole * scales[r]; });
}

template <class Dot, class Use>
inline void for_layer(const Linear& layer, const LevelRows& in, Range rows, Range panels, Use use) {
  for_blocks<Dot>(layer, in, rows, panels,
                  [&layer, in, use](std::size_t row, std::size_t count, std::size_t column, const std::int32_t* sums) {
                    for_values(layer, in, row, count, column, sums, use);
                  });
}

template <class Dot>
void linear(const Linear& layer, const LevelRows& in, const FloatRows& out, Range rows, Range panels) {
  for_layer<Dot>(layer, in, rows, panels,
                 [out](std::size_t r, std::size_t c, Floats x) { store(out.row(r) + c, x); });
}

template <class Dot>
void linear_add(const Linear& layer, const LevelRows& in, const FloatRows& out, Range rows, Range panels) {
  for_layer<Dot>(layer, in, rows, panels, [out](std::size_t r, std::size_t c, Floats x) {
    store(out.row(r) + c, load(out.row(r) + c) + x);
  });
}

template <class Dot, Activation kind>
void linear_activate_as(const Linear& layer, const LevelRows& in, const FloatRows& out, Range rows, Range panels) {
  for_layer<Dot>(layer, in, rows, panels,
                 [out](std::size_t r, std::size_t c, Floats x) { store(out.row(r) + c, activated<kind>(x)); });
}

// The rows stay in the second cache as floats, and their largest values fall out on the way there.
template <class Dot, Activation kind>
void linear_activate_quantize_rows(const Linear& layer, const LevelRows& in, const Quantizer& next,
                                   const FloatRows& floats, const LevelRows& out, Range rows, Range panels) {
  alignas(64) float largest[kFloatRows][kLanes] = {};
  const float* multiplier = next.multiplier.data();
  const std::size_t width = next.multiplier.size();
  for_layer<Dot>(layer, in, rows, panels,
                 [floats, multiplier, first = rows.begin, maxima = largest](std::size_t r, std::size_t c, Floats x) {
                   const Floats y = activated<kind>(x) * load(multiplier + c);
                   float* maximum = maxima[r - first];
                   store(floats.row(r - first) + c, y);
                   store(maximum, larger_magnitude(y, load(maximum)));
                 });
  for (std::size_t r = rows.begin; r < rows.end; ++r) {
    out.scales[r] = scale_of_row(largest_of(load(largest[r - rows.begin])));
    const float inverse = 1.0f / out.scales[r];
    const float* row = floats.row(r - rows.begin);
    std::uint8_t* levels = out.row(r);
    for (std::size_t i = 0; i < width; i += kLanes) store_levels(levels + i, load(row + i) * inverse, Dot::kZero);
  }
}

template <class Dot, Activation kind>
void linear_activate_quantize_as(const Linear& layer, const LevelRows& in, const Quantizer& next,
                                 const FloatRows& floats, const LevelRows& out, Range rows, Range panels) {
  if (next.per_token) {
    const std::size_t parts = (rows.size() + kFloatRows - 1) / kFloatRows;
    for (std::size_t i = 0; i < parts; ++i)
      linear_activate_quantize_rows<Dot, kind>(
          layer, in, next, floats, out,
          {rows.begin + rows.size() * i / parts, rows.begin + rows.size() * (i + 1) / parts}, panels);
    return;
  }
  const float* multiplier = next.multiplier.data();
  for_layer<Dot>(layer, in, rows, panels, [out, multiplier](std::size_t r, std::size_t c, Floats x) {
    store_levels(out.row(r) + c, activated<kind>(x) * load(multiplier + c), Dot::kZero);
  });
}

template <class Dot>
void linear_activate(const Linear& layer, Activation kind, const LevelRows& in, const FloatRows& out, Range rows,
                     Range panels) {
  switch (kind) {
    case Activation::gelu: return linear_activate_as<Dot, Activation::gelu>(layer, in, out, rows, panels);
    case Activation::gelu_tanh: return linear_activate_as<Dot, Activation::gelu_tanh>(layer, in, out, rows, panels);
    case Activation::relu: return linear_activate_as<Dot, Activation::relu>(layer, in, out, rows, panels);
    case Activation::tanh: return linear_activate_as<Dot, Activation::tanh>(layer, in, out, rows, panels);
  }
}

template <class Dot>
void linear_activate_quantize(const Linear& layer, Activation kind, const LevelRows& in, const Quantizer& next,
                              const FloatRows& floats, const LevelRows& out, Range rows, Range panels) {
  switch (kind) {
    case Activation::gelu:
      return linear_activate_quantize_as<Dot, Activation::gelu>(layer, in, next, floats, out, rows, panels);
    case Activation::gelu_tanh:
      return linear_activate_quantize_as<Dot, Activation::gelu_tanh>(layer, in, next, floats, out, rows, panels);
    case Activation::relu:
      return linear_activate_quantize_as<Dot, Activation::relu>(layer, in, next, floats, out, rows, panels);
    case Activation::tanh:
      return linear_activate_quantize_as<Dot, Activation::tanh>(layer, in, next, floats, out, rows, panels);
  }
}

}  // namespace
}  // namespace octavo
