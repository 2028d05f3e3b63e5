/* A library that pretends to be libedgetpu.so.1, for tests of what a program does with an Edge TPU and its failures.
 *
 * It cannot show numerics, speed, or what USB does. It can show call order, options, errors and lifetimes, and it gives
 * right answers to the models that `edgetpu_standin.py` makes: what to compute stands in their payload.
 *
 * What it does is chosen by the environment of the process that loads it:
 *
 *   STANDIN_DEVICES   "usb:/sys/bus/usb/devices/2-1,pci:/dev/apex_0" in enumeration order; "" is none; unset is one on
 *                     USB; "@FILE" reads the list from a file each time, so that a test can pull a device out.
 *   STANDIN_VERSION   what edgetpu_version() returns.
 *   STANDIN_CREATE    "refuse", "refuse:REASON", "abort", "segv", "exit" or "hang" instead of making a delegate.
 *   STANDIN_NEEDS     a device node that must be open for reading and writing; else no device is listed or opened.
 *   STANDIN_PREPARE   "refuse:REASON", "abort", "segv" or "hang" when the interpreter allocates its tensors.
 *   STANDIN_INVOKE    "KIND@N[+][:REASON]", several with ";" between them. KIND is fail, wrong, abort, segv, hang, or
 *                     gone (pulled out from invoke N on: every one fails, no device is listed). N counts from 1, anew
 *                     for each delegate; with "+" it holds from there on.
 *   STANDIN_COUNT     a file whose length is the number of invokes, so that they count on across delegates and processes.
 *   STANDIN_SLOW_MS   what each invoke takes, in milliseconds.
 *   STANDIN_SAYS      printed on stdout and stderr when a delegate is made, as a talkative library does.
 *   STANDIN_LOG       one line an event is appended to this file: "version", "list N", "option KEY=VALUE",
 *                     "create DEVICE", "refused", "claim N WHAT", "invoke N", "destroy".
 *
 * With -DNOT_A_DELEGATE it has nothing that TFLite looks for; with -DNOT_EDGETPU it is a delegate of another maker.
 *
 * Layouts of the structs: tensorflow/lite/core/c/common.h, 64 bit, as of TensorFlow 2.14; those of LiteRT 2.3.0 agree in
 * the fields that stand here. Device strings and the empty reason: tflite_plugin.cc of google-coral/libedgetpu.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifdef NOT_A_DELEGATE
int answer(void) { return 42; }
#else

/* --- what TFLite's C interface looks like ---------------------------------------------------------------------- */

typedef struct { int size; int data[]; } IntArray;
typedef struct Context Context;
typedef struct Delegate Delegate;

typedef struct {
  int type;
  void *data;
  IntArray *dims;
  float scale;
  int32_t zero_point;
  int allocation_type;
  size_t bytes;
  const void *allocation;
  const char *name;
  Delegate *delegate;
  int buffer_handle;
  bool data_is_stale, is_variable;
  int quantization_type;
  void *quantization_params;
  void *sparsity;
  const IntArray *dims_signature;
} Tensor;

typedef struct {
  IntArray *inputs, *outputs, *intermediates, *temporaries;
  void *user_data, *builtin_data;
  const void *custom_initial_data;
  int custom_initial_data_size;
  Delegate *delegate;
  bool might_have_side_effect;
} Node;

typedef struct {
  void *(*init)(Context *, const char *buffer, size_t length);
  void (*free)(Context *, void *buffer);
  int (*prepare)(Context *, Node *);
  int (*invoke)(Context *, Node *);
  const char *(*profiling_string)(const Context *, const Node *);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *registration_external, *async_kernel;
  uint64_t inplace_operator;
} Registration;

struct Context {
  size_t tensors_size;
  int (*GetExecutionPlan)(Context *, IntArray **);
  Tensor *tensors;
  void *impl;
  int (*ResizeTensor)(Context *, Tensor *, IntArray *);
  void (*ReportError)(Context *, const char *format, ...);
  int (*AddTensors)(Context *, int, int *);
  int (*GetNodeAndRegistration)(Context *, int, Node **, Registration **);
  int (*ReplaceNodeSubsetsWithDelegateKernels)(Context *, Registration, const IntArray *, Delegate *);
};

typedef struct { Delegate *delegate; } DelegateParams; /* more fields follow */

enum { MAX_DEVICES = 8, WHAT = 64, UINT8 = 3, INT8 = 9 };

struct Delegate {
  void *data;
  int (*Prepare)(Context *, Delegate *);
  int (*CopyFromBufferHandle)(Context *, Delegate *, int, Tensor *);
  int (*CopyToBufferHandle)(Context *, Delegate *, int, Tensor *);
  void (*FreeBufferHandle)(Context *, Delegate *, int *);
  int64_t flags;
  void *opaque_builder;
  /* ours */
  char claimed[WHAT]; /* what the node that is being claimed computes */
  char path[256];     /* of the device */
};

typedef struct { int type; const char *path; } Device; /* type 0 is PCI, 1 is USB */

/* --- what happened, and what shall happen ---------------------------------------------------------------------- */

static void note(const char *format, ...) {
  const char *path = getenv("STANDIN_LOG");
  if (!path) return;
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(line, sizeof line - 1, format, arguments);
  va_end(arguments);
  if (length > (int)sizeof line - 2) length = sizeof line - 2;
  line[length++] = '\n';
  int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
  if (file >= 0) {
    if (write(file, line, length) < 0) perror(path);
    close(file);
  }
}

static long own_count;

static long invokes_so_far(void) {
  const char *path = getenv("STANDIN_COUNT");
  if (!path) return own_count;
  struct stat status;
  return stat(path, &status) == 0 ? (long)status.st_size : 0;
}

static long count_invoke(void) {
  const char *path = getenv("STANDIN_COUNT");
  own_count++;
  if (path) {
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (file >= 0) {
      if (write(file, ".", 1) < 0) perror(path);
      close(file);
    }
  }
  return invokes_so_far();
}

/* True where STANDIN_INVOKE asks for this kind at invoke `n`; copies its reason. "gone" holds from its number on. */
static bool planned(const char *kind, long n, char *reason, size_t size) {
  const char *plan = getenv("STANDIN_INVOKE");
  while (plan && *plan) {
    size_t length = strcspn(plan, ";");
    char one[256];
    snprintf(one, sizeof one, "%.*s", (int)length, plan);
    char *at = strchr(one, '@');
    if (at && (size_t)(at - one) == strlen(kind) && !strncmp(one, kind, at - one)) {
      char *end;
      long from = strtol(at + 1, &end, 10);
      bool onward = *end == '+' || !strcmp(kind, "gone");
      char *colon = strchr(end, ':');
      if (n == from || (onward && n > from)) {
        if (reason) snprintf(reason, size, "%s", colon ? colon + 1 : "");
        return true;
      }
    }
    plan += length + (plan[length] == ';');
  }
  return false;
}

static void end_as(const char *how) {
  if (!strcmp(how, "abort")) abort();
  if (!strcmp(how, "segv")) *(volatile int *)8 = 0;
  if (!strcmp(how, "exit")) _exit(7);
  if (!strcmp(how, "hang"))
    for (;;) sleep(1000);
}

/* --- devices --------------------------------------------------------------------------------------------------- */

static char device_text[2048];

static int find_devices(Device *found) {
  const char *given = getenv("STANDIN_DEVICES");
  const char *node = getenv("STANDIN_NEEDS");
  if (!given) given = "usb:/sys/bus/usb/devices/2-1";
  if (planned("gone", invokes_so_far(), NULL, 0)) return 0;
  if (node) {
    int file = open(node, O_RDWR);
    if (file < 0) return 0;
    close(file);
  }
  if (*given == '@') {
    int file = open(given + 1, O_RDONLY);
    ssize_t length = file < 0 ? 0 : read(file, device_text, sizeof device_text - 1);
    if (file >= 0) close(file);
    device_text[length < 0 ? 0 : length] = 0;
    device_text[strcspn(device_text, "\r\n")] = 0;
  } else {
    snprintf(device_text, sizeof device_text, "%s", given);
  }
  int count = 0;
  char *rest = NULL;
  for (char *one = strtok_r(device_text, ",", &rest); one && count < MAX_DEVICES; one = strtok_r(NULL, ",", &rest)) {
    found[count].type = !strncmp(one, "usb", 3);
    found[count].path = strchr(one, ':') ? strchr(one, ':') + 1 : one;
    count++;
  }
  return count;
}

/* The device that "", ":i", "usb", "usb:i", "pci" or "pci:i" means, or -1. */
static int choose_device(const char *text, const Device *devices, int count) {
  int type = -1;
  if (!strncmp(text, "pci", 3)) type = 0;
  if (!strncmp(text, "usb", 3)) type = 1;
  if (type >= 0) text += 3;
  long index = 0;
  if (*text) {
    char *end;
    index = strtol(text + 1, &end, 10);
    if (*text != ':' || !text[1] || *end || index < 0) return -1;
  }
  for (int i = 0; i < count; i++)
    if ((type < 0 || devices[i].type == type) && index-- == 0) return i;
  return -1;
}

/* --- the pretended op ------------------------------------------------------------------------------------------ */

typedef struct { char what[WHAT]; char path[256]; } Op;

static void *op_init(Context *context, const char *buffer, size_t length) {
  (void)context, (void)length;
  const Delegate *delegate = ((const DelegateParams *)buffer)->delegate;
  Op *op = calloc(1, sizeof *op);
  snprintf(op->what, sizeof op->what, "%s", delegate->claimed);
  snprintf(op->path, sizeof op->path, "%s", delegate->path);
  return op;
}

static void op_free(Context *context, void *op) {
  (void)context;
  free(op);
}

static int op_prepare(Context *context, Node *node) {
  (void)node;
  const char *how = getenv("STANDIN_PREPARE");
  if (!how) return 0;
  if (!strncmp(how, "refuse:", 7)) {
    context->ReportError(context, "%s", how + 7);
    return 1;
  }
  end_as(how);
  return 0;
}

static int clamp(int value, int type) {
  int low = type == INT8 ? -128 : 0, high = type == INT8 ? 127 : 255;
  return value < low ? low : value > high ? high : value;
}

static void add(const Tensor *in, Tensor *out, int number) {
  for (size_t i = 0; i < out->bytes && i < in->bytes; i++) {
    int value = in->type == INT8 ? ((int8_t *)in->data)[i] : ((uint8_t *)in->data)[i];
    ((uint8_t *)out->data)[i] = (uint8_t)clamp(value + number, in->type);
  }
}

/* The greatest value of each channel, over the whole picture. */
static void peak(const Tensor *in, Tensor *out) {
  size_t channels = out->bytes;
  for (size_t c = 0; c < channels; c++) {
    int best = -1000;
    for (size_t i = c; i < in->bytes; i += channels) {
      int value = in->type == INT8 ? ((int8_t *)in->data)[i] : ((uint8_t *)in->data)[i];
      if (value > best) best = value;
    }
    ((uint8_t *)out->data)[c] = (uint8_t)best;
  }
}

/* For a file that was not made for this library: the same input gives the same output, another input another. */
static void pattern(Context *context, const Node *node) {
  uint64_t hash = 1469598103934665603u;
  for (int i = 0; i < node->inputs->size; i++) {
    if (node->inputs->data[i] < 0) continue;
    const Tensor *in = &context->tensors[node->inputs->data[i]];
    for (size_t k = 0; in->data && k < in->bytes; k++) hash = (hash ^ ((uint8_t *)in->data)[k]) * 1099511628211u;
  }
  for (int i = 0; i < node->outputs->size; i++) {
    Tensor *out = &context->tensors[node->outputs->data[i]];
    for (size_t k = 0; out->data && k < out->bytes; k++) {
      hash = hash * 6364136223846793005u + 1442695040888963407u;
      ((uint8_t *)out->data)[k] = (uint8_t)(hash >> 56);
    }
  }
}

static int op_invoke(Context *context, Node *node) {
  Op *op = node->user_data;
  long n = count_invoke();
  char reason[256] = "";
  note("invoke %ld", n);
  const char *slow = getenv("STANDIN_SLOW_MS");
  if (slow) {
    struct timespec wait = {atol(slow) / 1000, atol(slow) % 1000 * 1000000};
    nanosleep(&wait, NULL);
  }
  static const char *const ends[] = {"abort", "segv", "hang"};
  for (int i = 0; i < 3; i++)
    if (planned(ends[i], n, NULL, 0)) end_as(ends[i]);
  Device devices[MAX_DEVICES];
  int count = find_devices(devices);
  bool there = false;
  for (int i = 0; i < count; i++) there |= !strcmp(devices[i].path, op->path);
  if (!there) {
    context->ReportError(context, "Unavailable: USB transfer error 5 [LibUsbDataOutCallback]");
    return 1;
  }
  if (planned("fail", n, reason, sizeof reason)) {
    context->ReportError(context, "%s", *reason ? reason : "Deadline exceeded: USB transfer error 2");
    return 1;
  }
  const Tensor *in = &context->tensors[node->inputs->data[0]];
  Tensor *out = &context->tensors[node->outputs->data[0]];
  if (!strcmp(op->what, "copy")) {
    memcpy(out->data, in->data, in->bytes < out->bytes ? in->bytes : out->bytes);
  } else if (!strncmp(op->what, "add:", 4)) {
    add(in, out, atoi(op->what + 4));
  } else if (!strcmp(op->what, "peak")) {
    peak(in, out);
  } else {
    pattern(context, node);
  }
  if (planned("wrong", n, NULL, 0))
    for (int i = 0; i < node->outputs->size; i++) {
      Tensor *wrong = &context->tensors[node->outputs->data[i]];
      for (size_t k = 0; k < wrong->bytes; k++) ((uint8_t *)wrong->data)[k] ^= 0x55;
    }
  return 0;
}

/* Remember what a compiled op computes: "standin[add:3]" somewhere in its payload; "pattern" without it. */
static void read_what(const Node *node, char *what) {
  static const char mark[] = "standin[";
  snprintf(what, WHAT, "pattern");
  if (!node->custom_initial_data) return;
  const char *found = memmem(node->custom_initial_data, node->custom_initial_data_size, mark, sizeof mark - 1);
  if (!found) return;
  const char *begin = found + sizeof mark - 1;
  const char *limit = (const char *)node->custom_initial_data + node->custom_initial_data_size;
  const char *end = memchr(begin, ']', limit - begin);
  if (end) snprintf(what, WHAT, "%.*s", (int)(end - begin), begin);
}

static int delegate_prepare(Context *context, Delegate *delegate) {
  IntArray *plan;
  if (context->GetExecutionPlan(context, &plan)) return 1;
  /* Claiming changes the plan, so it is copied first. */
  int count = plan->size, *nodes = malloc(sizeof(int) * (count ? count : 1));
  memcpy(nodes, plan->data, sizeof(int) * count);
  int status = 0;
  for (int i = 0; i < count && !status; i++) {
    Node *node;
    Registration *registration;
    if (context->GetNodeAndRegistration(context, nodes[i], &node, &registration)) continue;
    if (!registration->custom_name || strcmp(registration->custom_name, "edgetpu-custom-op")) continue;
    read_what(node, delegate->claimed);
    note("claim %d %s", nodes[i], delegate->claimed);
    Registration ours = {.init = op_init, .free = op_free, .prepare = op_prepare, .invoke = op_invoke,
                         .custom_name = "EdgeTpuDelegateForCustomOp", .version = 1};
    IntArray *one = malloc(sizeof(IntArray) + sizeof(int));
    one->size = 1;
    one->data[0] = nodes[i];
    status = context->ReplaceNodeSubsetsWithDelegateKernels(context, ours, one, delegate);
    free(one);
  }
  free(nodes);
  return status;
}

/* --- what TFLite and libedgetpu export ------------------------------------------------------------------------- */

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  const char *device = "", *how = getenv("STANDIN_CREATE"), *says = getenv("STANDIN_SAYS");
  for (size_t i = 0; i < count; i++) {
    note("option %s=%s", keys[i], values[i]);
    if (!strcmp(keys[i], "device")) device = values[i];
  }
  if (says) {
    printf("%s\n", says);
    fprintf(stderr, "%s\n", says);
    fflush(NULL);
  }
  if (how && !strncmp(how, "refuse", 6)) {
    note("refused");
    if (how[6] == ':' && report) report(how + 7);
    return NULL;
  }
  if (how) end_as(how);
  Device devices[MAX_DEVICES];
  int chosen = choose_device(device, devices, find_devices(devices));
  if (chosen < 0) {
    note("refused");
    return NULL; /* without a reason, as the original does */
  }
  Delegate *delegate = calloc(1, sizeof *delegate);
  delegate->Prepare = delegate_prepare;
  delegate->flags = 1; /* dynamic tensors are allowed */
  snprintf(delegate->path, sizeof delegate->path, "%s", devices[chosen].path);
  own_count = 0;
  note("create %s", delegate->path);
  return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) {
  if (!delegate) return;
  note("destroy");
  free(delegate);
}

#ifndef NOT_EDGETPU
const char *edgetpu_version(void) {
  const char *version = getenv("STANDIN_VERSION");
  note("version");
  return version ? version : "BuildLabel(COMPILER=stand-in,DATE=redacted,TIME=redacted), RuntimeVersion(14)";
}

Device *edgetpu_list_devices(size_t *count) {
  Device found[MAX_DEVICES];
  int number = find_devices(found);
  note("list %d", number);
  *count = number;
  if (!number) return NULL;
  Device *listed = calloc(number, sizeof *listed);
  for (int i = 0; i < number; i++) listed[i] = (Device){found[i].type, strdup(found[i].path)};
  return listed;
}

void edgetpu_free_devices(Device *devices) { free(devices); /* the paths are few, and the process is short */ }
#endif
#endif
