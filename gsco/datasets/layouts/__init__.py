"""Readers of data sets as they are published, without any conversion by hand."""

from collections.abc import Callable, Mapping
from pathlib import Path

from gsco.datasets.card import DataCard
from gsco.datasets.layouts.archives import read_archive
from gsco.datasets.layouts.asked import (
    read_omnimedvqa,
    read_pmc_vqa,
    read_slake,
    read_vqa_med_2019,
    read_vqa_rad,
)
from gsco.datasets.layouts.breast import read_cbis_ddsm
from gsco.datasets.layouts.classes import read_classes
from gsco.datasets.layouts.laid import Laid
from gsco.datasets.layouts.medfmc import read_medfmc
from gsco.datasets.layouts.parquet import read_pathvqa
from gsco.datasets.layouts.reported import read_r2gen
from gsco.datasets.layouts.skin import read_bcn20000, read_derm7pt, read_ham10000
from gsco.datasets.layouts.tables import read_brset, read_rsna
from gsco.datasets.layouts.vindr import read_mammo, read_pcxr, read_spinexr
from gsco.datasets.question import Question, Report
from gsco.datasets.row import Row

DIAGNOSIS: Mapping[str, Callable[[Path, DataCard], Laid[Row]]] = {
    "medmnist": read_archive,
    "folders": read_classes,
    "ham10000": read_ham10000,
    "bcn20000": read_bcn20000,
    "derm7pt": read_derm7pt,
    "cbis-ddsm": read_cbis_ddsm,
    "vindr-spinexr": read_spinexr,
    "vindr-pcxr": read_pcxr,
    "vindr-mammo": read_mammo,
    "medfmc": read_medfmc,
    "brset": read_brset,
    "rsna": read_rsna,
}
"""By the card's `layout`."""
QUESTIONS: Mapping[str, Callable[[Path, DataCard], Laid[Question]]] = {
    "slake": read_slake,
    "vqa-rad": read_vqa_rad,
    "vqa-med-2019": read_vqa_med_2019,
    "omnimedvqa": read_omnimedvqa,
    "pmc-vqa": read_pmc_vqa,
    "pathvqa": read_pathvqa,
}
REPORTS: Mapping[str, Callable[[Path, DataCard], Laid[Report]]] = {"r2gen": read_r2gen}

__all__ = ["DIAGNOSIS", "Laid", "QUESTIONS", "REPORTS"]
