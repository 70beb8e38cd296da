// The seam between the encoder and the instruction sets: one table of functions for each of them.
//
// Layouts that all of them share:
// - Weights lie in panels of 32 outputs, [panel][inputs / 4][32][4]: what a 4-way dot product eats, in order. Where a
//   kernel asks for longer runs, the halves of a panel take turns: [panel][inputs / 4 / run][2][run][16][4].
// - Levels of activations lie row by row, one byte each, `zero` added: VNNI wants them unsigned, the others as they are.
// - Buffers are padded: columns with zeros to whole panels, rows with anything to a whole block.
#pragma once

#include <cstddef>
#include <cstdint>

#include "memory.h"
#include "model.h"

namespace octavo {

inline constexpr std::size_t kPanel = 32;      // outputs in a panel
inline constexpr std::size_t kInputAlign = 64;  // inputs are padded to this: the bytes in a row of an AMX tile
inline constexpr std::size_t kSpareRows = 32;   // rows that a kernel may read behind the last one

// Bytes from one row of a buffer to the next: an odd number of cache lines, as rows at even ones share few sets of the
// nearest cache and push each other out. By it, and huge pages, QKV on AMX took an eighth less in a batch of 352 tokens.
constexpr std::size_t row_bytes(std::size_t bytes) { return round_up(bytes, kCacheLine) | kCacheLine; }

struct Range {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::size_t size() const { return end - begin; }
};

// How a layer's float input becomes levels.
struct Quantizer {
  Array<float> multiplier;  // (inputs, padded to panels): smoothing, divided by the scale where that is static
  bool per_token = false;
};

// A linear layer, packed.
struct Linear {
  std::size_t inputs = 0;
  std::size_t outputs = 0;
  std::size_t groups = 0;  // of four inputs
  std::size_t panels = 0;
  const std::int8_t* weights = nullptr;
  Array<std::int32_t> start;  // (padded outputs,): where sums start, which takes `zero` out of them again
  Array<float> scale;         // (padded outputs,)
  Array<float> bias;          // (padded outputs,)
  Quantizer quantizer;

  std::size_t padded_inputs() const { return groups * 4; }
  std::size_t padded_outputs() const { return panels * kPanel; }
};

struct LayerNorm {
  Array<float> weight;  // padded with zeros
  Array<float> bias;
  float epsilon = 0;
  std::size_t width = 0;
};

// A float layer in panels of 32 outputs, [panel][inputs][32].
struct Dense {
  std::size_t inputs = 0;
  std::size_t outputs = 0;
  Array<float> weights;
  Array<float> bias;
};

struct FloatRows {
  float* data = nullptr;
  std::size_t stride = 0;
  float* row(std::size_t i) const { return data + i * stride; }
};

struct LevelRows {
  std::uint8_t* data = nullptr;
  std::size_t stride = 0;
  float* scales = nullptr;  // (rows,): what a level is worth, where that is told for each token
  std::uint8_t* row(std::size_t i) const { return data + i * stride; }
};

// One head of one sequence. The scale of the scores has been folded into Q. Rows are read in whole vectors: there are
// kFloatAlign floats, of anything, behind the last row of queries and of values.
struct HeadOfSequence {
  const float* query;
  std::size_t query_stride;
  std::size_t queries;
  const float* key;
  const float* value;
  std::size_t stride;  // of keys and values
  std::size_t length;
  std::size_t head_size;
  float* context;
  std::size_t context_stride;
  float* scratch;  // attention_scratch() floats
};

struct Kernels {
  const char* name;
  std::uint8_t zero;       // how level 0 is stored
  std::size_t run;         // groups of four inputs that lie together for half a panel
  std::size_t row_block;   // rows of one inner call

  // out = layer(in)
  void (*linear)(const Linear&, const LevelRows& in, const FloatRows& out, Range rows, Range panels);
  // out += layer(in)
  void (*linear_add)(const Linear&, const LevelRows& in, const FloatRows& out, Range rows, Range panels);
  // out = activation(layer(in)), as floats
  void (*linear_activate)(const Linear&, Activation, const LevelRows& in, const FloatRows& out, Range rows,
                          Range panels);
  // The same, rounded for the next layer. Where that has a scale for each token, `panels` are all, and `floats` has
  // room for kFloatRows rows, which wait there until their largest value is known.
  void (*linear_activate_quantize)(const Linear&, Activation, const LevelRows& in, const Quantizer& next,
                                   const FloatRows& floats, const LevelRows& out, Range rows, Range panels);
  // Normalises rows in place and, where there is a next layer, rounds them for it.
  void (*layer_norm)(const LayerNorm&, const FloatRows& x, const Quantizer* next, const LevelRows& out, Range rows);
  void (*quantize)(const FloatRows& x, const Quantizer& next, const LevelRows& out, Range rows);
  void (*attend)(const HeadOfSequence&);
  void (*dense)(const Dense&, const FloatRows& in, const FloatRows& out, std::size_t rows);
  void (*tanh)(float* values, std::size_t count);
  // For measurements: does about as many rounds of nothing but integer products. Returns the products done.
  std::uint64_t (*spin)(std::uint64_t rounds);
};

inline constexpr std::size_t kFloatRows = 64;  // more would push the weights out of the second cache
inline constexpr std::size_t kKeyBlock = 64;   // keys that attention looks at together
inline constexpr std::size_t kFloatAlign = 16;  // floats in the widest vector

// Floats that `attend` needs for its scratch.
constexpr std::size_t attention_scratch(std::size_t head_size) {
  return (kKeyBlock + 2 * round_up(head_size, kFloatAlign)) * kFloatAlign;
}

// The tables; each is defined in kernels_<name>.cpp, where it was compiled in.
extern const Kernels kPortableKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvxVnniKernels;
extern const Kernels kAvx512VnniKernels;
extern const Kernels kAmxKernels;
extern const Kernels kNeonDotprodKernels;
extern const Kernels kNeonI8mmKernels;

}  // namespace octavo
