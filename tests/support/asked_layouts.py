"""Small sets of questions and reports in exactly the layout of the published ones."""

import io
from pathlib import Path

from painting import Painter, Writer, lines, table, write_json
from PIL import Image


def slake(root: Path) -> None:
    """Write two questions an image, in two languages each."""
    painter = Painter()
    number = 0
    for name, count in (("train", 6), ("validate", 2), ("test", 3)):
        items = []
        for _ in range(count):
            image = f"xmlab{number}/source.jpg"
            painter.draw(root / "imgs" / image)
            painter.draw(root / f"imgs/xmlab{number}/mask.png")
            for language, words, answer, kind in (
                ("en", "Is this a CT?", "Yes", "CLOSED"),
                ("en", "Which organ is it?", "Liver", "OPEN"),
                ("zh", "这是CT吗？", "是", "CLOSED"),
            ):
                items.append(
                    {
                        "img_id": number,
                        "img_name": image,
                        "question": words,
                        "answer": answer,
                        "q_lang": language,
                        "location": "Abdomen",
                        "modality": "CT",
                        "answer_type": kind,
                        "base_type": "vqa",
                        "content_type": "Modality",
                        "triple": ["vhead", "_", "_"],
                        "qid": len(items),
                    }
                )
            number += 1
        write_json(root / f"{name}.json", items)


def vqa_rad(root: Path) -> None:
    """Write thirty questions on ten images; every third is a test question."""
    painter = Painter()
    phrases = ("freeform", "para", "test_freeform")
    items = []
    for number in range(30):
        image = f"synpic{number // 3}.jpg"
        if number % 3 == 0:
            painter.draw(root / "VQA_RAD Image Folder" / image)
        closed = number % 2
        items.append(
            {
                "qid": number,
                "phrase_type": phrases[number % 3],
                "image_name": image,
                "image_case_url": f"https://medpix.example/case?id={number // 6}",
                "image_organ": "HEAD",
                "question_type": "PRES",
                "question": f"Is there a mass, number {number}?",
                "answer": "Yes" if closed else "left side\t",
                "answer_type": "CLOSED " if closed else "OPEN",
            }
        )
    write_json(root / "VQA_RAD Dataset Public.json", items)


def vqa_med_2019(root: Path) -> None:
    painter = Painter()
    for split, name, place in (
        ("train", "ImageClef-2019-VQA-Med-Training/All_QA_Pairs_train.txt", "Train_images"),
        ("val", "ImageClef-2019-VQA-Med-Validation/All_QA_Pairs_val.txt", "Val_images"),
        (
            "test",
            "VQAMed2019Test/VQAMed2019_Test_Questions_w_Ref_Answers.txt",
            "VQAMed2019_Test_Images",
        ),
    ):
        rows = []
        for number in range(4):
            image = f"synpic{split}{number}"
            painter.draw((root / name).parent / place / f"{image}.jpg")
            middle = "|modality" if split == "test" else ""
            rows.append(f"{image}{middle}|is this a t1 weighted image?|no")
            rows.append(f"{image}{middle}|what plane is this?|axial")
        lines(root / name, rows)


def omnimedvqa(root: Path) -> None:
    painter = Painter()
    for source, field in (("ACRIMA", "modality_type"), ("Chest CT Scan", "modality")):
        items = []
        for number in range(3):
            image = f"Images/{source}/{number}.png"
            painter.draw(root / image)
            items.append(
                {
                    "dataset": source,
                    "question_id": f"{source}_{number:04}",
                    "question_type": "Disease Diagnosis",
                    "question": "What is seen?",
                    "gt_answer": "Glaucoma",
                    "image_path": image,
                    "option_A": "Normal",
                    "option_B": "Glaucoma",
                    **({"option_C": "Cataract", "option_D": ""} if number else {}),
                    field: "Fundus",
                }
            )
        write_json(root / f"QA_information/Open-access/{source}.json", items)


def pmc_vqa(root: Path) -> None:
    painter = Painter()
    columns = ("Figure_path", "Question", "Answer", "Choice A", "Choice B", "Choice C", "Choice D")
    choices = (" A:CT ", " B:MRI ", " C: X-ray", "D:PET ")
    for split, count in (("train", 6), ("test", 3)):
        rows = []
        for number in range(count):
            image = f"PMC{split}{number}_Fig1.jpg"
            painter.draw(root / "images" / image)
            rows.append((image, " What modality? ", "MRI", *choices, "B"))
        table(root / f"{split}.csv", (*columns, "Answer_label"), rows)


def pathvqa(root: Path) -> None:
    """Write the hub's files; needs pyarrow."""
    import pyarrow
    import pyarrow.parquet

    painter = Painter()
    for word, count in (("train", 6), ("validation", 2), ("test", 2)):
        rows = []
        for _ in range(count):
            opened = io.BytesIO()
            Image.fromarray(painter.pixels()).save(opened, "JPEG")
            image = {"bytes": opened.getvalue(), "path": None}
            rows.append({"image": image, "question": "is it necrosis?", "answer": "yes"})
            rows.append({"image": image, "question": "what is seen?", "answer": "cells"})
        file = root / f"data/{word}-00000-of-00001-abc.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)


def r2gen(name: str) -> Writer:
    """Return a writer of `annotation.json`; two views an item for IU X-ray."""

    def write(root: Path) -> None:
        painter = Painter()
        data = {}
        for split, count in (("train", 4), ("val", 1), ("test", 2)):
            data[split] = []
            for number in range(count):
                study = f"CXR{split}{number}_IM-0001"
                names = [f"{study}/0.png", f"{study}/1.png"]
                item = {"id": study, "report": f"Clear lungs in case {number}.", "split": split}
                if name == "mimic-cxr":
                    names = [f"p10/p1000{split}{number}/s1/a.jpg"]
                    item |= {"study_id": number, "subject_id": f"1000{split}{number}"}
                for image in names:
                    painter.draw(root / "images" / image)
                data[split].append({**item, "image_path": names})
        write_json(root / "annotation.json", data)

    return write


QUESTIONS: dict[str, Writer] = {
    "slake": slake,
    "vqa-rad": vqa_rad,
    "vqa-med-2019": vqa_med_2019,
    "omnimedvqa": omnimedvqa,
    "pmc-vqa": pmc_vqa,
    "pathvqa": pathvqa,
}
"""A writer for each set of questions."""
REPORTS: dict[str, Writer] = {name: r2gen(name) for name in ("mimic-cxr", "iu-xray")}
"""A writer for each set of reports."""
