"""Trainings of which no cost of a larger batch is predicted, by what their classes and functions are called."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

NotPredicted: TypeAlias = Literal["reinforcement", "contrastive", "unknown_loss"]
"""Why there is no ratio of samples."""

_WORDS: Final[dict[NotPredicted, str]] = {
    "reinforcement": "not predicted: in reinforcement learning a batch decides which samples come next",
    "contrastive": "not predicted: a contrastive loss compares the samples of a batch: another batch is another loss",
    "unknown_loss": "not predicted: the loss is not known to be a mean over samples, as in the published workloads",
}

_REINFORCEMENT: Final = re.compile(
    r"GRPO|PPO|RLOO|REINFORCE|OnlineDPO|XPO|NashMD|PolicyGradient|A[23]C|ActorCritic|DQN|QLearning|SAC(?![a-z])|TD3|DDPG"
    r"|(?:^|_)(?:grpo|ppo|rloo|reinforce|policy_gradient|a[23]c|actor_critic|dqn|q_learning|sac|td3|ddpg)(?:_|$)"
)
_CONTRASTIVE: Final = re.compile(
    r"contrast|info_?nce|nt_?xent|sup_?con|multiple_?negatives|triplet|n_?pairs?_?loss|(?:cl|sigl)ip_?loss"
    r"|^(?:sim_?clr|moco|clip|siglip|barlow_?twins|vic_?reg)(?:v\d)?_?(?:loss|model|module|trainer)?$",
    re.IGNORECASE,
)
_MEAN: Final = re.compile(
    r"cross_?entropy|(?:nll|mse|huber|ctc|bce|l1|kl_?div|focal|dice)_?(?:with_?logits_?)?(?:loss|$)|mean_?squared_?error"
    r"|For(?:CausalLM|MaskedLM|ConditionalGeneration|PreTraining|SequenceClassification|TokenClassification"
    r"|QuestionAnswering|MultipleChoice|ImageClassification|SemanticSegmentation|ObjectDetection|AudioClassification"
    r"|CTC|SpeechSeq2Seq)$|LMHeadModel$",
    re.IGNORECASE,
)
"""Losses that are means over samples, and models of transformers that bring one."""


def find_not_predicted(names: Iterable[str]) -> NotPredicted | None:
    """
    Return why nothing is predicted of a training, None where something is.

    One sign of reinforcement learning or of a contrastive loss is enough; a training without a known loss is unknown.

    Example:
        >>> find_not_predicted(["GRPOTrainer", "LlamaForCausalLM"]), find_not_predicted(["InfoNCE"])
        ('reinforcement', 'contrastive')
        >>> find_not_predicted(["Trainer", "LlamaForCausalLM"]), find_not_predicted(["CrossEntropyLoss"])
        (None, None)
        >>> find_not_predicted(["MyLoss"])
        'unknown_loss'

    Args:
        names: of the trainer, the model, loss modules and loss functions, as their code calls them.
    """
    known = list(names)
    if any(map(_REINFORCEMENT.search, known)):
        return "reinforcement"
    if any(map(_CONTRASTIVE.search, known)):
        return "contrastive"
    return None if any(map(_MEAN.search, known)) else "unknown_loss"


def explain_not_predicted(reason: NotPredicted) -> str:
    """
    Return why there is no ratio, in words.

    >>> explain_not_predicted("contrastive")
    'not predicted: a contrastive loss compares the samples of a batch: another batch is another loss'
    """
    return _WORDS[reason]
