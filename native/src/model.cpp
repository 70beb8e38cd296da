#include "model.h"

#include <cmath>
#include <stdexcept>

namespace octavo {

namespace {

// Sums of 127 * 128 over more inputs could leave int32.
constexpr std::size_t kMostInputs = 1 << 16;

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

template <class T>
void expect_size(const std::vector<T>& values, std::size_t size, const std::string& name) {
  if (values.size() != size)
    refuse(name + " has " + std::to_string(values.size()) + " values, not " + std::to_string(size));
}

// NaN in what is rounded to levels would vanish in the rounding and be served as an answer.
void expect_finite(const std::vector<float>& values, const std::string& name) {
  for (float value : values)
    if (!std::isfinite(value)) refuse(name + " holds NaN or infinity");
}

void expect_positive(float value, const std::string& name) {
  if (!(std::isfinite(value) && value > 0)) refuse(name + " is " + std::to_string(value) + ", not above 0");
}

void check(const LinearSource& linear, std::size_t inputs, std::size_t outputs, const std::string& name) {
  if (linear.inputs != inputs || linear.outputs != outputs)
    refuse(name + ".weight is " + std::to_string(linear.inputs) + " x " + std::to_string(linear.outputs) + ", not " +
           std::to_string(inputs) + " x " + std::to_string(outputs));
  if (inputs > kMostInputs) refuse(name + " has " + std::to_string(inputs) + " inputs, more than sums of int32 bear");
  expect_size(linear.weight, inputs * outputs, name + ".weight");
  expect_size(linear.weight_scale, outputs, name + ".weight_scale");
  expect_size(linear.bias, outputs, name + ".bias");
  if (!linear.input_factor.empty()) expect_size(linear.input_factor, inputs, name + ".input_factor");
  expect_finite(linear.weight_scale, name + ".weight_scale");
  expect_finite(linear.bias, name + ".bias");
  expect_finite(linear.input_factor, name + ".input_factor");
  if (linear.input_scale) expect_positive(*linear.input_scale, name + ".input_scale");
  for (std::int8_t level : linear.weight)
    if (level == -128) refuse(name + ".weight holds level -128; weights go from -127 to 127");
}

void check(const LayerNormSource& norm, std::size_t hidden, const std::string& name) {
  expect_size(norm.weight, hidden, name + ".weight");
  expect_size(norm.bias, hidden, name + ".bias");
  if (!(std::isfinite(norm.epsilon) && norm.epsilon >= 0)) refuse(name + " has no epsilon of at least 0");
}

void check(const DenseSource& dense, std::size_t inputs, const std::string& name) {
  if (dense.inputs != inputs || dense.outputs == 0) refuse(name + ".weight does not fit the hidden size");
  expect_size(dense.weight, dense.inputs * dense.outputs, name + ".weight");
  expect_size(dense.bias, dense.outputs, name + ".bias");
}

void check(const LayerSource& layer, std::size_t hidden, bool query_apart, const std::string& name) {
  if (query_apart) {
    if (layer.qkv.size() != 2) refuse(name + ".qkv is not in two parts, and the head reads one token");
    check(layer.qkv[0], hidden, hidden, name + ".qkv.parts.0");
    check(layer.qkv[1], hidden, 2 * hidden, name + ".qkv.parts.1");
    if (layer.qkv[0].input_scale != layer.qkv[1].input_scale || layer.qkv[0].input_factor != layer.qkv[1].input_factor)
      refuse(name + ".qkv rounds the input of its two parts in two ways");
  } else {
    if (layer.qkv.size() != 1) refuse(name + ".qkv is not in one part");
    check(layer.qkv[0], hidden, 3 * hidden, name + ".qkv.parts.0");
  }
  check(layer.attention_output, hidden, hidden, name + ".attention_output");
  check(layer.attention_norm, hidden, name + ".attention_norm");
  check(layer.ffn1, hidden, layer.ffn1.outputs, name + ".ffn1");
  if (layer.ffn1.outputs == 0) refuse(name + ".ffn1 has no outputs");
  check(layer.ffn2, layer.ffn1.outputs, hidden, name + ".ffn2");
  check(layer.ffn_norm, hidden, name + ".ffn_norm");
}

}  // namespace

void check(const ModelSource& model) {
  if (model.hidden == 0 || model.heads == 0 || model.hidden % model.heads != 0)
    refuse(std::to_string(model.hidden) + " hidden states cannot be shared by " + std::to_string(model.heads) +
           " heads");
  if (model.layers.empty()) refuse("the model has no layers");
  const auto rows = static_cast<std::int64_t>(model.positions);
  if (model.max_length < 1 || model.position_offset < 0 || model.position_offset > rows || model.segment_stride < 0 ||
      model.segment_stride > rows)
    refuse("the longest sequence or the rows of positions lie outside the position table");
  expect_size(model.words, model.vocabulary * model.hidden, "embeddings.words.weight");
  expect_size(model.position_table, model.positions * model.hidden, "embeddings.positions");
  check(model.embedding_norm, model.hidden, "embeddings.norm");
  for (std::size_t i = 0; i < model.layers.size(); ++i) {
    const bool query_apart = model.reads == Reads::one && i + 1 == model.layers.size();
    check(model.layers[i], model.hidden, query_apart, "layers." + std::to_string(i));
  }
  if (model.dense) {
    check(*model.dense, model.hidden, "head.dense");
    if (model.dense->outputs != model.hidden) refuse("head.dense.weight is not square");
  }
  if (model.output) check(*model.output, model.hidden, "head.output");
}

}  // namespace octavo
