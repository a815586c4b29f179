"""gsco-tiny's own tokenizer: byte-level BPE of about 1,200 tokens, with one token a probability."""

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

from specialists import torchvision_cure

if TYPE_CHECKING:
    from transformers import LlavaProcessor, PreTrainedTokenizerFast

IMAGE, PAD, BEGIN, END = "<image>", "<|pad|>", "<|begin|>", "<|end|>"
_ROLES = ("<|system|>", "<|user|>", "<|assistant|>")

TEMPLATE = (
    "{{ '<|begin|>' }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}{{ '<image>' }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{{ '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""The chat template: content is a text, or a list of texts and images."""

_PIECES = r" ?[01]\.\d\d| ?\p{L}+| ?\d| ?[^\s\p{L}\d]+|\s+"

SENTENCES = (
    "The image shows a chest X-ray of a child. The lungs are clear and the heart is normal.",
    "There is an opacity in the right lower lobe, which suggests bacterial or viral pneumonia.",
    "The breast ultrasound shows a mass with irregular margins that may be malignant.",
    "A smooth oval lesion with a thin capsule is probably benign, a cyst or a fibroadenoma.",
    "The brain MRI shows a tumour: a glioma, a meningioma or a pituitary adenoma.",
    "No tumour is seen in this slice. The ventricles and the midline are as expected.",
    "The blood smear holds red cells, white cells and platelets under the microscope.",
    "The fundus photograph shows the optic disc, the macula and the vessels of the retina.",
    "Microscopy of cell nuclei with fluorescence, bright field or histology stain.",
    "Dermoscopy of a skin lesion: melanoma, nevus, keratosis, dermatofibroma, carcinoma.",
    "Findings and impression. The specialists agree; the similar cases disagree with them.",
    "Computed tomography of the abdomen, the head and the hand; retinal OCT with drusen.",
    "Is the effusion present in the image? Answer yes or no. The question is concise.",
    "Why this answer? Because the evidence is reliable and the picture says the same.",
    "atelectasis cardiomegaly effusion infiltration mass nodule pneumothorax consolidation edema",
    "emphysema fibrosis hernia osteophytes ulcer erosion polyp carcinoma adenocarcinoma lymphocyte",
    "eosinophil neutrophil monocyte basophil bladder femur kidney liver pancreas spleen mucosa",
)


def numbers() -> Iterator[str]:
    """Yield every probability with two decimals, after a blank, so that each becomes a token."""
    for hundredths in range(101):
        yield f" {hundredths / 100:.2f}"


def train_tokenizer(prompts: list[str], size: int) -> "PreTrainedTokenizerFast":
    """Return a tokenizer trained on prompts and on plain sentences about medical images."""
    torchvision_cure.apply()
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_PIECES), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, BEGIN, END, IMAGE, *_ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = [*prompts, *SENTENCES * 20, *list(numbers()) * 50]
    random.Random(0).shuffle(corpus)
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        extra_special_tokens={"image_token": IMAGE},
        padding_side="left",
        chat_template=TEMPLATE,
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )


def make_processor(tokenizer: "PreTrainedTokenizerFast", size: int, patch: int) -> "LlavaProcessor":
    """Return the processor that squeezes images to a square and lays out their tokens."""
    torchvision_cure.apply()
    from transformers import CLIPImageProcessor, LlavaProcessor

    half = [0.5, 0.5, 0.5]
    images = CLIPImageProcessor(
        size={"height": size, "width": size},
        do_center_crop=False,
        crop_size={"height": size, "width": size},
        image_mean=half,
        image_std=half,
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",
        image_token=IMAGE,
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
