// Every instruction set of this machine: sums exact to the last bit, roundings like ONNX, functions within their bounds.
#include <cmath>
#include <random>
#include <vector>

#include "check.h"
#include "isa.h"
#include "pack.h"

using namespace octavo;

namespace {

std::mt19937 random_bits(1);

std::int8_t random_level(int least) {
  // Extremes often: there 16-bit sums would saturate.
  switch (random_bits() % 4) {
    case 0: return static_cast<std::int8_t>(least);
    case 1: return 127;
    default: return static_cast<std::int8_t>(static_cast<int>(random_bits() % (128 - least)) + least);
  }
}

struct Levels {
  std::vector<std::uint8_t> bytes;
  std::size_t stride;

  Levels(std::size_t rows, const Linear& layer, const Kernels& kernels, const std::vector<std::int8_t>& values)
      : bytes((rows + kSpareRows) * layer.padded_inputs(), kernels.zero), stride(layer.padded_inputs()) {
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t k = 0; k < layer.inputs; ++k)
        bytes[r * stride + k] = static_cast<std::uint8_t>(values[r * layer.inputs + k] + kernels.zero);
  }
  LevelRows rows() { return {bytes.data(), stride, nullptr}; }
};

LinearSource random_linear(std::size_t inputs, std::size_t outputs) {
  LinearSource source;
  source.inputs = inputs;
  source.outputs = outputs;
  source.weight.resize(inputs * outputs);
  for (std::int8_t& weight : source.weight) weight = random_level(-127);
  source.weight_scale.assign(outputs, 1.0f);
  source.bias.assign(outputs, 0.0f);
  source.input_scale = 1.0f;
  return source;
}

// With scales of 1 and no bias, outputs are the sums: whole numbers below 2^24, which floats hold exactly.
void test_sums_are_exact(const Kernels& kernels, std::size_t rows, std::size_t inputs, std::size_t outputs) {
  const LinearSource source = random_linear(inputs, outputs);
  Array<std::int8_t> weights(packed_bytes(source));
  const Linear layer = packed(source, kernels, weights.data());
  std::vector<std::int8_t> values(rows * inputs);
  for (std::int8_t& value : values) value = random_level(-128);
  Levels levels(rows, layer, kernels, values);
  std::vector<float> out(rows * layer.padded_outputs(), -1.0f);
  kernels.linear(layer, levels.rows(), {out.data(), layer.padded_outputs()}, {0, rows}, {0, layer.panels});
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t n = 0; n < outputs; ++n) {
      std::int64_t sum = 0;
      for (std::size_t k = 0; k < inputs; ++k) sum += values[r * inputs + k] * source.weight[k * outputs + n];
      CHECK(out[r * layer.padded_outputs() + n] == static_cast<float>(sum), "%s: row %zu of %zu, output %zu, %zu inputs",
            kernels.name, r, rows, n, inputs);
    }
  }
}

void test_parts_of_a_layer(const Kernels& kernels) {
  const LinearSource source = random_linear(70, 100);
  Array<std::int8_t> weights(packed_bytes(source));
  const Linear layer = packed(source, kernels, weights.data());
  std::vector<std::int8_t> values(50 * 70);
  for (std::int8_t& value : values) value = random_level(-128);
  Levels levels(50, layer, kernels, values);
  const std::size_t stride = layer.padded_outputs();
  std::vector<float> whole(50 * stride), part(50 * stride, -1.0f);
  kernels.linear(layer, levels.rows(), {whole.data(), stride}, {0, 50}, {0, layer.panels});
  kernels.linear(layer, levels.rows(), {part.data(), stride}, {3, 41}, {1, 3});
  for (std::size_t r = 0; r < 50; ++r) {
    for (std::size_t n = 0; n < stride; ++n) {
      const bool inside = r >= 3 && r < 41 && n >= kPanel && n < 3 * kPanel;
      CHECK(part[r * stride + n] == (inside ? whole[r * stride + n] : -1.0f), "%s: row %zu, output %zu", kernels.name, r,
            n);
    }
  }
}

void test_rounding(const Kernels& kernels) {
  const std::vector<std::pair<float, int>> expected = {
      {0.5f, 0},     {1.5f, 2},   {2.5f, 2},       {-0.5f, 0},  {-1.5f, -2},  {-2.5f, -2}, {0.49999997f, 0},
      {126.5f, 126}, {127.4f, 127}, {127.5f, 127}, {1e9f, 127}, {3e38f, 127}, {-127.5f, -128}, {-128.5f, -128},
      {-1e9f, -128}, {-3e38f, -128}, {INFINITY, 127}, {-INFINITY, -128}};
  LinearSource source = random_linear(expected.size(), 1);
  Array<std::int8_t> weights(packed_bytes(source));
  const Linear layer = packed(source, kernels, weights.data());
  const std::size_t width = round_up(expected.size(), kPanel);
  std::vector<float> x(width);
  for (std::size_t i = 0; i < expected.size(); ++i) x[i] = expected[i].first;
  std::vector<std::uint8_t> levels(layer.padded_inputs());
  kernels.quantize({x.data(), width}, layer.quantizer, {levels.data(), levels.size(), nullptr}, {0, 1});
  for (std::size_t i = 0; i < expected.size(); ++i)
    CHECK(static_cast<std::int8_t>(levels[i] - kernels.zero) == expected[i].second, "%s: %g became %d", kernels.name,
          static_cast<double>(expected[i].first), static_cast<std::int8_t>(levels[i] - kernels.zero));
}

void test_scale_for_each_token(const Kernels& kernels) {
  LinearSource source = random_linear(40, 1);
  source.input_scale.reset();
  Array<std::int8_t> weights(packed_bytes(source));
  const Linear layer = packed(source, kernels, weights.data());
  std::vector<float> x(2 * 64), scales(2);
  for (std::size_t i = 0; i < 40; ++i) x[i] = static_cast<float>(i) - 25.0f;  // the largest magnitude is 25
  std::vector<std::uint8_t> levels(2 * 64);
  kernels.quantize({x.data(), 64}, layer.quantizer, {levels.data(), 64, scales.data()}, {0, 2});
  CHECK(std::fabs(scales[0] - 25.0f / 127) < 1e-6f);
  CHECK(scales[1] == 1e-12f, "a row of zeros");
  for (std::size_t i = 0; i < 40; ++i) {
    const long level = std::lrint((static_cast<double>(i) - 25) * 127 / 25);
    CHECK(static_cast<std::int8_t>(levels[i] - kernels.zero) == level, "%s: %zu", kernels.name, i);
    CHECK(levels[64 + i] == kernels.zero);
  }
}

// The bounds that elementary.h states.
void test_activations(const Kernels& kernels) {
  LinearSource source = random_linear(1, 1024);
  std::fill(source.weight.begin(), source.weight.end(), std::int8_t{0});
  for (std::size_t n = 0; n < 1024; ++n) source.bias[n] = (static_cast<float>(n) - 512) / 48;
  Array<std::int8_t> weights(packed_bytes(source));
  const Linear layer = packed(source, kernels, weights.data());
  Levels levels(1, layer, kernels, {0});
  std::vector<float> out(1024);
  for (Activation kind : {Activation::gelu, Activation::gelu_tanh, Activation::relu, Activation::tanh}) {
    kernels.linear_activate(layer, kind, levels.rows(), {out.data(), 1024}, {0, 1}, {0, layer.panels});
    for (std::size_t n = 0; n < 1024; ++n) {
      const double x = source.bias[n];
      const double exact = kind == Activation::gelu        ? 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)))
                           : kind == Activation::gelu_tanh ? 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)))
                           : kind == Activation::relu      ? std::fmax(x, 0)
                                                           : std::tanh(x);
      const double bound = kind == Activation::gelu || kind == Activation::gelu_tanh ? 1e-4 : 1e-6;
      CHECK(std::fabs(out[n] - exact) < bound, "%s: activation %d of %g is %g, not %g", kernels.name,
            static_cast<int>(kind), x, static_cast<double>(out[n]), exact);
    }
  }
}

void test_nan_passes(const Kernels& kernels) {
  LinearSource source = random_linear(1, 32);
  source.bias.assign(32, NAN);
  Array<std::int8_t> weights(packed_bytes(source));
  const Linear layer = packed(source, kernels, weights.data());
  Levels levels(1, layer, kernels, {0});
  std::vector<float> out(32);
  kernels.linear_activate(layer, Activation::relu, levels.rows(), {out.data(), 32}, {0, 1}, {0, 1});
  for (float value : out) CHECK(std::isnan(value), "%s", kernels.name);
}

void test_layer_norm(const Kernels& kernels, std::size_t width) {
  const LayerNormSource source{std::vector<float>(width, 2.0f), std::vector<float>(width, 0.5f), 1e-5f};
  const LayerNorm norm = packed(source);
  const std::size_t stride = round_up(width, kPanel);
  std::vector<float> x(stride);
  std::normal_distribution<float> normal(30.0f, 0.5f);  // far from zero: padding must not count
  for (std::size_t i = 0; i < width; ++i) x[i] = normal(random_bits);
  double mean = 0, variance = 0;
  for (std::size_t i = 0; i < width; ++i) mean += x[i] / static_cast<double>(width);
  for (std::size_t i = 0; i < width; ++i) variance += (x[i] - mean) * (x[i] - mean) / static_cast<double>(width);
  const std::vector<float> before = x;
  kernels.layer_norm(norm, {x.data(), stride}, nullptr, {}, {0, 1});
  for (std::size_t i = 0; i < stride; ++i) {
    const double exact = i < width ? (before[i] - mean) / std::sqrt(variance + 1e-5) * 2 + 0.5 : 0.0;
    CHECK(std::fabs(x[i] - exact) < 2e-4, "%s: width %zu, place %zu: %g, not %g", kernels.name, width, i,
          static_cast<double>(x[i]), exact);
  }
}

void test_attention(const Kernels& kernels, std::size_t length, std::size_t queries, std::size_t head_size) {
  const std::size_t stride = 3 * head_size + 5;
  std::normal_distribution<float> normal(0.0f, 1.5f);
  std::vector<float> qkv(length * stride + kFloatAlign), context(queries * head_size, -1.0f);
  for (float& value : qkv) value = normal(random_bits);
  std::vector<float> scratch(attention_scratch(head_size));
  const float *query = qkv.data(), *key = query + head_size, *value = key + head_size;
  kernels.attend({query, stride, queries, key, value, stride, length, head_size, context.data(), head_size,
                  scratch.data()});
  for (std::size_t i = 0; i < queries; ++i) {
    std::vector<double> weights(length), exact(head_size);
    double total = 0, largest = -1e30;
    for (std::size_t j = 0; j < length; ++j) {
      for (std::size_t c = 0; c < head_size; ++c)
        weights[j] += static_cast<double>(query[i * stride + c]) * key[j * stride + c];
      largest = std::fmax(largest, weights[j]);
    }
    for (double& weight : weights) total += weight = std::exp(weight - largest);
    for (std::size_t j = 0; j < length; ++j)
      for (std::size_t c = 0; c < head_size; ++c) exact[c] += weights[j] / total * value[j * stride + c];
    for (std::size_t c = 0; c < head_size; ++c)
      CHECK(std::fabs(context[i * head_size + c] - exact[c]) < 1e-4, "%s: length %zu, query %zu of %zu, head size %zu",
            kernels.name, length, i, queries, head_size);
  }
}

void test_dense(const Kernels& kernels) {
  DenseSource source{37, 45, std::vector<float>(37 * 45), std::vector<float>(45)};
  std::normal_distribution<float> normal;
  for (float& value : source.weight) value = normal(random_bits);
  for (float& value : source.bias) value = normal(random_bits);
  const Dense layer = packed(source);
  std::vector<float> in(3 * 64), out(3 * 64);
  for (float& value : in) value = normal(random_bits);
  kernels.dense(layer, {in.data(), 64}, {out.data(), 64}, 3);
  for (std::size_t r = 0; r < 3; ++r) {
    for (std::size_t n = 0; n < 45; ++n) {
      double exact = source.bias[n];
      for (std::size_t k = 0; k < 37; ++k) exact += static_cast<double>(in[r * 64 + k]) * source.weight[n * 37 + k];
      CHECK(std::fabs(out[r * 64 + n] - exact) < 1e-4, "%s", kernels.name);
    }
  }
}

}  // namespace

int main() {
  for (const Kernels* kernels : available_kernels()) {
    for (std::size_t rows = 1; rows <= 40; ++rows) test_sums_are_exact(*kernels, rows, 70, 40);
    for (std::size_t inputs : {1, 3, 4, 5, 63, 64, 65, 384, 1000}) test_sums_are_exact(*kernels, 5, inputs, 33);
    for (std::size_t outputs : {1, 31, 32, 33, 64, 100}) test_sums_are_exact(*kernels, 17, 96, outputs);
    test_parts_of_a_layer(*kernels);
    test_rounding(*kernels);
    test_scale_for_each_token(*kernels);
    test_activations(*kernels);
    test_nan_passes(*kernels);
    for (std::size_t width : {1, 5, 16, 31, 32, 33, 40, 384}) test_layer_norm(*kernels, width);
    for (std::size_t head_size : {1, 2, 6, 16, 20, 32, 64, 80})
      for (std::size_t length : {1, 2, 8, 11, 16, 17, 63, 64, 65, 129, 300})
        test_attention(*kernels, length, length < 20 ? length : 1 + length % 9, head_size);
    test_dense(*kernels);
    std::printf("%s: fine\n", kernels->name);
  }
}
