"""The `loewe` recipe the way it is usually written: autograd, a DataLoader with two workers, the label overlaid sample by sample."""

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


class OverlaidSamples(Dataset[tuple[Tensor, Tensor]]):
    """Positive and negative of one image, made when asked for."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.images[index], int(self.labels[index])
        wrong = [other for other in range(10) if other != label]
        shown = (label, wrong[int(torch.randint(9, ()))])
        positive, negative = (image.clone(), image.clone())
        for sample, one_hot in zip((positive, negative), shown, strict=True):
            sample[:10] = torch.nn.functional.one_hot(torch.tensor(one_hot), 10)
        return positive, negative


class PassingRelu(torch.autograd.Function):
    """Relu whose gradient passes dead units."""

    @staticmethod
    def forward(ctx: object, z: Tensor) -> Tensor:
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx: object, slope: Tensor) -> Tensor:
        return slope.clone()


class UsualLoewe:
    """Three layers of 1000 that learn from every batch, each from its own loss."""

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int) -> None:
        self.layers = torch.nn.ModuleList([torch.nn.Linear(m, 1000) for m in (images.shape[1], 1000, 1000)])
        self.optimizer = torch.optim.SGD(self.layers.parameters(), lr=1e-3, momentum=0.9, weight_decay=3e-4)
        self.running = [torch.full((1000,), 0.5) for _ in self.layers]
        self.loader = DataLoader(
            OverlaidSamples(images, labels), batch_size, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True
        )

    def epoch(self) -> None:
        """One pass over the samples."""
        for positive, negative in self.loader:
            self.optimizer.zero_grad()
            self.loss(torch.cat([positive, negative])).backward()
            self.optimizer.step()

    def loss(self, x: Tensor) -> Tensor:
        """Summed over the layers; no gradient passes between them."""
        half = len(x) // 2
        targets = torch.cat([torch.ones(half), torch.zeros(half)])
        total = torch.zeros(())
        x = normalized(x)
        for number, layer in enumerate(self.layers):
            h: Tensor = PassingRelu.apply(layer(x))  # type: ignore[no-untyped-call]
            running = 0.9 * self.running[number].detach() + 0.1 * h[:half].mean(0)
            self.running[number] = running
            total = total + 0.03 * (running.mean() - running).square().mean()
            logits = h.square().sum(1) - h.shape[1]
            total = total + torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
            x = normalized(h.detach())
        return total


def normalized(x: Tensor) -> Tensor:
    """Samples of root mean square 1."""
    return x / (x.square().mean(1, keepdim=True).sqrt() + 1e-8)
