"""The public models that can be fetched by name, as values: where they lie, what their bytes are, whose they are.

Every file is pinned to a commit of its publisher's repository and to its SHA-256, computed from that commit's content.
What a file says of itself (labels, normalization, task) is not said again here.
"""

from __future__ import annotations

from edgeinfer.frozen import dataclass
from edgeinfer.model.specs import Task

HOST = "https://raw.githubusercontent.com"  # where GitHub serves single files of public repositories
_PAGES = "https://github.com"


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One file in a public repository, at one commit.

    Attributes:
        repository: Owner and name.
        commit: All 40 hexadecimal digits.
        path: Within the repository.
        sha256: All 64 hexadecimal digits.
        bytes: The size.
    """

    repository: str
    commit: str
    path: str
    sha256: str
    bytes: int

    @property
    def name(self) -> str:
        """The file's own name, which it keeps in the cache."""
        return self.path.rpartition("/")[2]

    @property
    def place(self) -> str:
        """Where it lies below `HOST`, or below a mirror's address: `owner/name/commit/path`."""
        return f"{self.repository}/{self.commit}/{self.path}"

    @property
    def url(self) -> str:
        """Where the publisher's host serves it."""
        return f"{HOST}/{self.place}"


@dataclass(frozen=True, slots=True)
class ZooModel:
    """One model that can be fetched by its name.

    Attributes:
        name: What is typed; lower case.
        task: What the model does.
        file: The model file.
        sentence: What it is, in one sentence.
        licence: SPDX names, as the publishers state them.
        labels: A label file that belongs to it; None where the model file holds its labels, or nobody published any.
        normalization: `mean, std` in pixel units, which `classifier(normalization=...)` needs; None where the file says
            it, or where its uint8 input takes pixels as they are.
        pictures: True where the input is a picture, so that `edgeinfer run` takes it.
    """

    name: str
    task: Task
    file: PublishedFile
    sentence: str
    licence: str = "Apache-2.0"
    labels: PublishedFile | None = None
    normalization: tuple[float, float] | None = None
    pictures: bool = True

    @property
    def source(self) -> str:
        """The publisher's page at the commit, for people."""
        return f"{_PAGES}/{self.file.repository}/tree/{self.file.commit}"


def _coral(path: str, size_bytes: int, sha256: str) -> PublishedFile:
    commit = "104342d2d3480b3e66203073dac24f4e2dbb4c41"
    return PublishedFile("google-coral/test_data", commit, path, sha256, size_bytes)


def _mlperf(path: str, size_bytes: int, sha256: str) -> PublishedFile:
    commit = "1afd2c9820f795965a6134facd0b4dfae41ef23f"
    return PublishedFile("mlcommons/tiny", commit, f"benchmark/training/{path}", sha256, size_bytes)


_PASCAL_LABELS = _coral(
    "pascal_voc_segmentation_labels.txt", 263, "7337a2b06728385fb3e1106416c67bfddf69628598b1f2f0db6a63cd63fb6b1e"
)
# The detection op counts classes from 0 without a background. This file does so too; the label file beside the model
# begins with "unlabeled", one line too many.
_COCO_LABELS = _coral("coco_labels.txt", 661, "dc183f003fc753c4c43fae6fdf7f387559449573f13fa32e517fb7453fd380f1")

# MLPerf's training scripts: `vww` divides pixels by 255, the CIFAR-10 models take them as 0..255.
_ZERO_TO_ONE = (0.0, 255.0)
_AS_THEY_ARE = (0.0, 1.0)

MODELS = (
    ZooModel(
        "mobilenet-v1-0.25-128",
        "classification",
        _coral(
            "mobilenet_v1_0.25_128_quant.tflite",
            525598,
            "cb273c23ee76374b05b9583177e28aa19744858a7679c56a250e83d0333da785",
        ),
        "ImageNet, 1001 classes: the smallest MobileNet, 128 x 128 pixels.",
    ),
    ZooModel(
        "mobilenet-v1-0.5-160",
        "classification",
        _coral(
            "mobilenet_v1_0.5_160_quant.tflite",
            1392846,
            "3cc6d2ca460abd2e0f699a6d0d2550c6b61c6e3b0e27a3616e384ea74cb86f43",
        ),
        "ImageNet, 1001 classes: MobileNet of half width, 160 x 160 pixels.",
    ),
    ZooModel(
        "mobilenet-v1-0.75-192",
        "classification",
        _coral(
            "mobilenet_v1_0.75_192_quant.tflite",
            2652542,
            "41daeb22fdcf947e0e5ec32373aa9df7c31f3ef45dbd0ef7b5940fbce3c20f6a",
        ),
        "ImageNet, 1001 classes: MobileNet of three quarters width, 192 x 192 pixels.",
    ),
    ZooModel(
        "mobilenet-v2-1.0-224",
        "classification",
        _coral(
            "mobilenet_v2_1.0_224_quant.tflite",
            3610798,
            "7aad0c74c5e3c06e5eb3c827e13304fdd68a83da6087d92ee169c24ff9fd4776",
        ),
        "ImageNet, 1001 classes: MobileNetV2, trained for 8 bits.",
    ),
    ZooModel(
        "mobilenet-v2-1.0-224-ptq",
        "classification",
        _coral(
            "tf2_mobilenet_v2_1.0_224_ptq.tflite",
            4070174,
            "5d3137241276e79c86d14a74fe43581398ae0e815191d3dba45495b810840e8c",
        ),
        "ImageNet, 1001 classes: MobileNetV2 from TensorFlow 2, quantized after training.",
    ),
    ZooModel(
        "mobilenet-v2-inat-birds",
        "classification",
        _coral(
            "mobilenet_v2_1.0_224_inat_bird_quant.tflite",
            3579500,
            "350fcd8cf1df1560060d464595dfed8b174b05792788052896004848d9ad04f9",
        ),
        "iNaturalist, 965 kinds of birds: MobileNetV2.",
    ),
    ZooModel(
        "mobilenet-v2-inat-insects",
        "classification",
        _coral(
            "mobilenet_v2_1.0_224_inat_insect_quant.tflite",
            3655867,
            "0ebaeb474dccf56b8b818b014f0d6a8e22b35a45b491a659f0b5405c9c838282",
        ),
        "iNaturalist, 1022 kinds of insects: MobileNetV2.",
    ),
    ZooModel(
        "resnet8-cifar10-int8",
        "classification",
        _mlperf(
            "image_classification/trained_models/pretrainedResnet_quant.tflite",
            98496,
            "3c002613d1b2475eb51dd78dfb85a546c8ae658dee71cf6ade43b022fe205415",
        ),
        "CIFAR-10: the image classification reference of MLPerf Tiny, int8.",
        normalization=_AS_THEY_ARE,
    ),
    ZooModel(
        "resnet8-cifar10-float",
        "classification",
        _mlperf(
            "image_classification/trained_models/pretrainedResnet.tflite",
            318144,
            "b5c0046d6e0328b4956afd6baa29555a29b1f1c65bdd45aaed75b7cd484d9f79",
        ),
        "CIFAR-10: the image classification reference of MLPerf Tiny, float32.",
        normalization=_AS_THEY_ARE,
    ),
    ZooModel(
        "resnet-cifar10-large-int8",
        "classification",
        _mlperf(
            "image_classification/trained_models/pretrainedResnet_large_int8.tflite",
            512024,
            "dc27dcd823f5665533352f7da516b0c9bc6f089914b8283782e55961b3423fcf",
        ),
        "CIFAR-10: the larger variant of MLPerf Tiny's reference, int8.",
        normalization=_AS_THEY_ARE,
    ),
    ZooModel(
        "resnet-cifar10-large-float",
        "classification",
        _mlperf(
            "image_classification/trained_models/pretrainedResnet_large_float.tflite",
            1929208,
            "fb17ae9c1b6d0e5bd97f0f35024f207556261d7310b249716c87cc0628214b0e",
        ),
        "CIFAR-10: the larger variant of MLPerf Tiny's reference, float32.",
        normalization=_AS_THEY_ARE,
    ),
    ZooModel(
        "person-96-int8",
        "classification",
        _mlperf(
            "visual_wake_words/trained_models/vww_96_int8.tflite",
            333288,
            "597a384c8c2c8a1276f04702f25013b7838f2f814f1ca7c174d295b73e3d6b7b",
        ),
        "Visual wake words of MLPerf Tiny: class 1 is a person, class 0 is none; int8.",
        normalization=_ZERO_TO_ONE,
    ),
    ZooModel(
        "person-96-float",
        "classification",
        _mlperf(
            "visual_wake_words/trained_models/vww_96_float.tflite",
            866284,
            "115bbc094d2119561320a21f01b6500a18bea8cc8589282ab007097bec8af38c",
        ),
        "Visual wake words of MLPerf Tiny: class 1 is a person, class 0 is none; float32.",
        normalization=_ZERO_TO_ONE,
    ),
    ZooModel(
        "ssd-mobilenet-v1-coco",
        "detection",
        PublishedFile(
            "Qengineering/TensorFlow_Lite_SSD_RPi_64-bits",
            "9d4aa7988e0c9bf516ef0f9969719af33c6dcfa3",
            "detect.tflite",
            "e4b118e5e4531945de2e659742c7c590f7536f8d0ed26d135abcfe83b4779d13",
            4183312,
        ),
        "COCO, 80 classes: SSD MobileNet v1 of the TensorFlow detection zoo (Apache-2.0), by Q-engineering.",
        licence="Apache-2.0 AND BSD-3-Clause",
        labels=_COCO_LABELS,
    ),
    ZooModel(
        "deeplab-v3-dm05-pascal",
        "segmentation",
        _coral(
            "deeplabv3_mnv2_dm05_pascal_quant.tflite",
            760904,
            "0470d2a782aa54eeeb99d32e7b6b3fb7722905c7c4f5d26bd957ec861366d48b",
        ),
        "Pascal VOC, 21 classes: DeepLabV3 on a MobileNetV2 of half width.",
        labels=_PASCAL_LABELS,
    ),
    ZooModel(
        "deeplab-v3-pascal",
        "segmentation",
        _coral(
            "deeplabv3_mnv2_pascal_quant.tflite",
            2193224,
            "350af47fd346ea6d74b58833a351f583ba860e9806ec5bd292ff8d8f1f249398",
        ),
        "Pascal VOC, 21 classes: DeepLabV3 on a MobileNetV2.",
        labels=_PASCAL_LABELS,
    ),
    ZooModel(
        "movenet-lightning",
        "pose",
        _coral(
            "movenet_single_pose_lightning_ptq.tflite",
            2894840,
            "cd7cc22fa946e5d146a7b98d496853e1923e22828d3972d579973f27f91bb105",
        ),
        "MoveNet Lightning: 17 key points of one person.",
    ),
    ZooModel(
        "mobilenet-v1-embedding",
        "embedding",
        _coral(
            "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite",
            3251736,
            "f409ef4f73fcbb9667841965623c5c8524aac33d41b9bf5f3667161fb4a76319",
        ),
        "MobileNet without its classifier: 1024 numbers a picture.",
    ),
    ZooModel(
        "lstm-mnist",
        "classification",
        _coral(
            "keras_lstm_mnist_ptq.tflite", 13928, "ac718e4b27731e370c21bc018ad6214512fd56ce1dfde308a050707eda6f0a4b"
        ),
        "MNIST digits read row by row, an LSTM; its input is (1, 28, 28), no picture.",
        pictures=False,
    ),
    ZooModel(
        "keyword-spotting-int8",
        "classification",
        _mlperf(
            "keyword_spotting/trained_models/kws_ref_model.tflite",
            53936,
            "aeea436800704fce17b17292e4412630ad856e9d777c044c64ef748a880bd0ae",
        ),
        "Speech commands, 12 classes: the keyword spotting reference of MLPerf Tiny; its input is 49 x 10 features.",
        pictures=False,
    ),
    ZooModel(
        "anomaly-toycar-int8",
        "tensors",
        _mlperf(
            "anomaly_detection/trained_models/ad01_int8.tflite",
            276976,
            "87cf24194ef93d1d9b11a591d805526b98008e351655d29883c825c9c106ba24",
        ),
        "A toy car's sound: the anomaly detection reference of MLPerf Tiny; its input is 640 features.",
        licence="MIT",
        pictures=False,
    ),
)
