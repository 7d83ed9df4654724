"""Our settings in the words of TRL and PEFT."""

from pathlib import Path
from typing import Any

import torch

from steel_train.loop.checkpoints import WRITING
from steel_train.models.load import uses_bf16
from steel_train.schedule.order import Schedule
from steel_train.settings import Settings


def arguments(settings: Settings, schedule: Schedule, folder: Path, seed: int) -> Any:
    """Return TRL's SFTConfig: batches, order, saving and masks are ours, so it is told to leave them alone."""
    from trl.trainer.sft_config import SFTConfig

    return SFTConfig(
        output_dir=str(folder / "checkpoints" / WRITING),
        per_device_train_batch_size=1,  # one item is a whole step
        gradient_accumulation_steps=1,
        max_steps=schedule.steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=round(settings.warmup * schedule.steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=uses_bf16(settings),
        gradient_checkpointing=settings.gradient_checkpointing,
        logging_steps=settings.log_every,
        logging_nan_inf_filter=False,
        save_strategy="no",  # _SaveAndStop decides
        report_to=settings.report_to,
        run_name=f"{folder.name}",
        seed=seed,
        data_seed=seed,
        train_sampling_strategy="sequential",
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        use_cpu=not torch.accelerator.is_available(),
        disable_tqdm=True,
        log_level="warning",
    )
